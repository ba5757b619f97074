"""A run.json that a person or a broken disk changed: one sentence that names the file, and nothing is trained."""

import json

import pytest

from core.errors import InputError
from core.locks import locked_folder
from tests.export.runs import write_small_pack
from training.commands.train import main, parse
from training.compute.distribution import NOT_DISTRIBUTED
from training.run.begin import begin_run

ARCH = "squeezenet_inspired"
OLDER = {f"dropout_{name}": 0.2 for name in ("mobilenet", "squeezenet", "resnet", "other")}


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A pack, and the run.json of a run that has just begun on it."""
    folder = tmp_path_factory.mktemp("begun")
    write_small_pack(folder / "pack")
    begin(folder / "pack", folder / "run")
    return folder / "pack", json.loads((folder / "run" / "run.json").read_text())


def command(pack, out, *more):
    return without_mode(pack, out, "--precision", "fp32", "--memory-format", "contiguous", *more)


def without_mode(pack, out, *more):
    return [str(pack), "--out", str(out), "--models", ARCH, "--batch", "32", "--threads", "1", *more]


def begin(pack, out, *more):
    return begin_run(parse(command(pack, out, *more)), NOT_DISTRIBUTED)


def older(facts):
    """Return the run.json as schema 1 wrote it."""
    recipe = {name: value for name, value in facts["recipe"].items() if name != "dropout"}
    return facts | {"schema": 1, "recipe": recipe | OLDER}


def write(folder, facts):
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps(facts))
    return folder


MODE = {"precision": "fp32", "memory_format": "contiguous"}
DAMAGED = [
    {"modes": None},
    {"modes": []},
    {"modes": {}},
    {"modes": {ARCH: "bf16"}},
    {"modes": {ARCH: MODE | {"precision": ["fp32"]}}},
    {"modes": {ARCH: MODE | {"precision": "fp99"}}},
    {"modes": {ARCH: MODE | {"compiled": "yes"}}},
    {"machine": None},
    {"machine": {}},
    {"machine": {"threads": "4"}},
    {"machine": {"threads": 0}},
    {"commit": None},
    {"augment_on": "moon"},
    {"models": 3},
    {"recipe": None},
    {"recipe": [1]},
]


@pytest.mark.parametrize("schema", [1, 2])
@pytest.mark.parametrize("damage", DAMAGED, ids=str)
def test_a_damaged_run_json_is_one_sentence_that_names_it(begun, tmp_path, damage, schema):
    pack, facts = begun
    out = write(tmp_path / "run", (older(facts) if schema == 1 else facts) | damage)
    with pytest.raises(InputError, match=r"run\.json") as caught:
        begin(pack, out, "--resume")
    assert "\n" not in str(caught.value)
    assert "train the run again" in str(caught.value)


@pytest.mark.parametrize(
    "change", [{"zzz": 1}, {"dropout": [1]}, {"epochs": "x"}, {"dropout_mobilenet": None}], ids=str
)
def test_a_recipe_that_schema_1_never_wrote_is_one_sentence(begun, tmp_path, change):
    pack, facts = begun
    facts = older(facts)
    out = write(tmp_path / "run", facts | {"recipe": facts["recipe"] | change})
    with pytest.raises(InputError, match=r"run\.json holds no recipe of schema 1 .*train the run again"):
        begin(pack, out, "--resume")


@pytest.mark.parametrize("modes", [[1], {ARCH: "bf16"}, {ARCH: {"precision": [1]}}], ids=str)
def test_modes_from_a_damaged_run_are_one_sentence(begun, tmp_path, modes):
    pack, facts = begun
    other = write(tmp_path / "other", facts | {"modes": modes})
    with pytest.raises(InputError, match=r"other/run\.json: modes"):
        begin_run(parse(without_mode(pack, tmp_path / "run", "--mode-from", str(other))), NOT_DISTRIBUTED)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "flag",
    [
        ("--precision", "fp32"),
        ("--memory-format", "contiguous"),
        ("--compile", "no"),
        ("--capture", "no"),
        ("--cudnn-benchmark", "yes"),
        ("--deterministic",),
    ],
    ids=" ".join,
)
def test_a_flag_that_the_mode_of_another_run_would_overrule_is_refused(tmp_path, flag):
    with pytest.raises(InputError, match=f"{flag[0]} does not go with --mode-from"):
        parse(without_mode(tmp_path, tmp_path / "run", "--mode-from", str(tmp_path / "other"), *flag))


def test_both_schemas_go_on_with_keys_of_a_later_version(begun, tmp_path):
    pack, facts = begun
    for version in (facts, older(facts)):
        out = write(tmp_path / f"run{version['schema']}", version | {"later": 1})
        assert begin(pack, out, "--resume").threads == 1


def test_a_run_that_another_process_trains_is_left_alone(begun, tmp_path):
    """A lock belongs to an open file, so a second opening in this process stands for another process."""
    pack, _ = begun
    begin(pack, out := tmp_path / "run")
    with locked_folder(out), pytest.raises(InputError, match=r"run is in use by another process: wait until it ends"):
        main(command(pack, out, "--resume"))
    assert not (out / ARCH).exists()
    with locked_folder(out):
        pass  # the refused command kept nothing


def test_a_start_beside_another_writes_no_run_json(begun, tmp_path):
    """The other process still packs, or times modes: it has written no run.json yet."""
    pack, _ = begun
    (out := tmp_path / "run").mkdir()
    with locked_folder(out), pytest.raises(InputError, match="in use by another process"):
        main(command(pack, out, "--resume"))
    assert list(out.iterdir()) == []


def test_a_refused_start_leaves_no_folder(begun, tmp_path):
    pack, _ = begun
    with pytest.raises(InputError, match="does not exist"):
        main(command(pack, tmp_path / "run", "--teacher", str(tmp_path / "none.safetensors")))
    assert list(tmp_path.iterdir()) == []


def as_in_run_json(facts):
    mode = facts["modes"][ARCH]
    flags = ["--precision", mode["precision"], "--memory-format", mode["memory_format"]]
    for flag, name in (("--compile", "compiled"), ("--capture", "captured"), ("--cudnn-benchmark", "cudnn_benchmark")):
        flags += [flag, "yes" if mode[name] else "no"]
    return [*flags, "--augment-on", facts["augment_on"], "--abstain-risk", str(facts["abstain_risk"])]


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        (["--precision", "bf16"], f"begun with {ARCH} in fp32 contiguous, which --precision contradicts"),
        (["--memory-format", "channels_last"], "which --memory-format contradicts: leave it out"),
        (["--compile", "yes"], "which --compile contradicts"),
        (["--capture", "yes"], "which --capture contradicts"),
        (["--cudnn-benchmark", "yes"], "which --cudnn-benchmark contradicts"),
        (["--deterministic"], "which --deterministic contradicts"),
        (["--augment-on", "device"], "begun with --augment-on host: leave out --augment-on"),
        (["--abstain-risk", "0.1"], "begun with abstain_risk 0.05, not 0.1"),
    ],
    ids=str,
)
def test_resuming_with_a_flag_that_contradicts_the_run_is_refused(begun, tmp_path, flag, said):
    """Such a flag was ignored: the run went on as it was begun, and nobody was told."""
    pack, facts = begun
    out = write(tmp_path / "run", facts)
    with pytest.raises(InputError, match=said):
        begin_run(parse(without_mode(pack, out, "--resume", *flag)), NOT_DISTRIBUTED)
    assert begin_run(parse(without_mode(pack, out, "--resume", *as_in_run_json(facts))), NOT_DISTRIBUTED).modes


def test_resuming_with_the_mode_of_another_run_is_refused_unless_it_is_the_same(begun, tmp_path):
    pack, facts = begun
    out = write(tmp_path / "run", facts)
    for precision in ("fp32", "bf16"):
        write(tmp_path / precision, facts | {"modes": {ARCH: MODE | {"precision": precision}}})
    resume = without_mode(pack, out, "--resume", "--mode-from")
    assert begin_run(parse([*resume, str(tmp_path / "fp32")]), NOT_DISTRIBUTED).modes[ARCH].precision == "fp32"
    with pytest.raises(InputError, match="which --mode-from contradicts"):
        begin_run(parse([*resume, str(tmp_path / "bf16")]), NOT_DISTRIBUTED)


def test_a_run_is_resumed_with_the_threads_of_the_command_else_with_its_own(begun, tmp_path):
    pack, facts = begun
    out = write(tmp_path / "run", facts)
    arguments = [argument for argument in command(pack, out, "--resume") if argument not in {"--threads", "1"}]
    assert begin_run(parse(arguments), NOT_DISTRIBUTED).threads == 1
    assert begin_run(parse([*arguments, "--threads", "2"]), NOT_DISTRIBUTED).threads == 2


def test_a_run_of_an_older_version_is_resumed_without_its_abstain_risk(begun, tmp_path):
    pack, facts = begun
    out = write(tmp_path / "run", {name: value for name, value in facts.items() if name != "abstain_risk"})
    assert begin(pack, out, "--resume", "--abstain-risk", "0.1").threads == 1


def test_a_stated_size_that_is_not_that_of_the_pack_is_refused(begun, tmp_path):
    pack, _ = begun
    with pytest.raises(InputError, match="is a pack of 32 px, and --size is 224: leave it out"):
        begin(pack, tmp_path / "run", "--size", "224")
    assert not (tmp_path / "run").exists()
    begin(pack, tmp_path / "run", "--size", "32")
