import csv
import json
import os
import resource
import shutil
import signal
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from core.cli import Parser
from core.data.run_dir import open_run
from core.errors import CheckError, InputError
from models.checkpoint import load_checkpoint
from tests.export.runs import write_small_pack
from tests.training.killed import kill
from training import state
from training import step as steps_of
from training.commands import train as command
from training.commands.train import main
from training.run import job, outputs
from training.run.interrupt import Interrupt
from training.state import read_state

ARCH = "squeezenet_inspired"
EPOCHS = 3
SETTINGS = ["--models", ARCH, "--recipe", "edge", "--epochs", str(EPOCHS), "--batch", "32", "--precision", "fp32",
            "--memory-format", "channels_last", "--threads", "1"]  # fmt: skip


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    path = tmp_path_factory.mktemp("train") / "pack"
    write_small_pack(path)
    return path


@pytest.fixture(scope="module")
def run(pack):
    """A run that nothing disturbed."""
    out = pack.parent / "whole"
    assert arguments_end(pack, out) == 0
    return out


def arguments(pack, out, *more):
    return [str(pack), "--out", str(out), *SETTINGS, *more]


def arguments_end(pack, out, *more):
    return main(arguments(pack, out, *more)) or 0


def trained(run):
    """Everything that training decides: the best weights and facts, the history without its clock, the last state."""
    best = load_checkpoint(run / ARCH / "best.safetensors")
    with (run / ARCH / "history.csv").open() as stream:
        history = [
            {k: v for k, v in row.items() if k not in {"seconds", "images_per_s"}} for row in csv.DictReader(stream)
        ]
    return best.weights, best.metadata, history, read_state(run / ARCH / "last")[1]


def assert_same(run, other):
    weights, facts, history, state = trained(run)
    other_weights, other_facts, other_history, other_state = trained(other)
    assert history == other_history
    assert replace(facts, commit="") == replace(other_facts, commit="")  # somebody may commit meanwhile
    for ours, theirs in ((weights, other_weights), (state, other_state)):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_run_leaves_what_the_design_says(run):
    for name in ("best.safetensors", "last/state.safetensors", "last/state.json", "history.csv", "history.png",
                 "confusion_matrix.png", "metrics.json"):  # fmt: skip
        assert (run / ARCH / name).is_file(), name
    assert (run / "leaderboard.md").is_file()
    (row,) = json.loads((run / "leaderboard.json").read_text())
    assert row["arch"] == ARCH
    assert "confusion_matrix" not in row["test"]  # of 1,000 classes 16 MB
    assert open_run(run).checkpoints() == {ARCH: run / ARCH / "best.safetensors"}


def test_run_json_tells_what_was_used(run, pack):
    facts = open_run(run).metadata
    assert facts["recipe"]["batch"] == 32
    assert facts["pack"]["fingerprint"] == "colours-0"
    assert facts["modes"][ARCH]["precision"] == "fp32"
    assert facts["measured"][ARCH]["images_per_s"] > 0


def test_metrics_are_those_of_the_file_that_was_kept(run, pack):
    metrics = json.loads((run / ARCH / "metrics.json").read_text())
    from core.data.pack import open_pack

    opened = open_pack(pack)
    rows = opened.rows("test")
    with torch.inference_mode():
        probs = load_checkpoint(run / ARCH / "best.safetensors").build_network()(
            torch.from_numpy(opened.images_nhwc[rows])
        )
    assert (probs.argmax(1).numpy() == opened.labels_n[rows]).mean() == pytest.approx(metrics["test"]["accuracy"])


def test_the_same_seed_gives_the_same_run(run, pack, tmp_path):
    arguments_end(pack, tmp_path / "again")
    assert_same(run, tmp_path / "again")


def test_another_seed_gives_another_run(run, pack, tmp_path):
    arguments_end(pack, tmp_path / "other", "--seed", "1")
    ours, others = trained(run)[0], trained(tmp_path / "other")[0]
    assert any(not torch.equal(ours[name], others[name]) for name in ours)


def test_mode_from_takes_the_modes_of_another_run_untimed(run, pack, tmp_path, monkeypatch):
    monkeypatch.setattr("training.run.begin.choose_mode", lambda *a, **k: pytest.fail("timed"))
    settings = [*SETTINGS[:-6], "--epochs", "1", "--batch", "32", "--threads", "1"]
    assert not main([str(pack), "--out", str(tmp_path / "x"), *settings, "--mode-from", str(run)])
    assert open_run(tmp_path / "x").metadata["modes"] == open_run(run).metadata["modes"]


def test_resuming_a_finished_run_changes_nothing(run, pack):
    before = (run / ARCH / "best.safetensors").stat().st_mtime_ns
    assert arguments_end(pack, run, "--resume") == 0
    assert (run / ARCH / "best.safetensors").stat().st_mtime_ns == before


def test_resuming_without_a_checkpoint_starts(pack, tmp_path, run):
    arguments_end(pack, tmp_path / "fresh", "--resume")
    assert_same(run, tmp_path / "fresh")


@pytest.mark.parametrize("asked_after", [2, 8])
def test_a_signal_saves_in_the_middle_and_resuming_ends_the_same(run, pack, tmp_path, monkeypatch, asked_after):
    step, steps = steps_of.train_step, []

    def hearing(*values):
        steps.append(1)
        if len(steps) == asked_after:
            os.kill(os.getpid(), signal.SIGTERM)
        step(*values)

    monkeypatch.setattr(steps_of, "train_step", hearing)
    assert arguments_end(pack, tmp_path / "run") == 128 + signal.SIGTERM
    assert len(steps) == asked_after
    assert arguments_end(pack, tmp_path / "run", "--resume") == 0
    assert_same(run, tmp_path / "run")


@pytest.mark.parametrize(("moment", "number"), [("step", 6), ("write", 2), ("between", 1)])
def test_a_killed_run_goes_on_to_the_same_end(run, pack, tmp_path, moment, number):
    assert kill(moment, number, arguments(pack, tmp_path / "run")) == -signal.SIGKILL
    assert arguments_end(pack, tmp_path / "run", "--resume") == 0
    assert_same(run, tmp_path / "run")
    assert not list((tmp_path / "run").rglob("*.tmp"))


def test_a_run_in_bf16_that_was_killed_goes_on_to_the_same_end(pack, tmp_path):
    bf16 = ["--precision", "bf16"]
    arguments_end(pack, tmp_path / "whole", *bf16)
    assert kill("step", 6, arguments(pack, tmp_path / "run", *bf16)) == -signal.SIGKILL
    assert arguments_end(pack, tmp_path / "run", *bf16, "--resume") == 0
    assert_same(tmp_path / "whole", tmp_path / "run")


@pytest.mark.prove
@pytest.mark.parametrize("seed", range(24))
def test_random_kills_never_change_the_end(run, pack, tmp_path, seed):
    """Each run is killed up to three times, at moments that a seed draws, before it may end."""
    random = np.random.default_rng(seed)
    for _ in range(int(random.integers(1, 4))):
        moment, number = str(random.choice(["step", "write", "between"])), int(random.integers(0, 8))
        code = kill(moment, number, arguments(pack, tmp_path / "run", "--resume"))
        assert code in {-signal.SIGKILL, 0}
        print(f"seed {seed}: {moment} {number}: {'killed' if code else 'had ended'}")
    assert arguments_end(pack, tmp_path / "run", "--resume") == 0
    assert_same(run, tmp_path / "run")


def nan_at(monkeypatch, *numbers):
    step, rates = steps_of.train_step, []

    def failing(state, *values):
        step(state, *values)
        rates.append(state.optimizer.param_groups[0]["lr"])
        if len(rates) in numbers:
            state.totals[0] = float("nan")

    monkeypatch.setattr(steps_of, "train_step", failing)
    return rates


def test_a_loss_that_is_not_a_number_costs_half_the_rate_once(pack, tmp_path, monkeypatch):
    rates = nan_at(monkeypatch, 5)
    assert arguments_end(pack, tmp_path / "run") == 0
    assert read_state(tmp_path / "run" / ARCH / "last")[0].rate_scale == 0.5
    steps = 4
    assert rates[2 * steps] == pytest.approx(rates[steps] / 2)


def test_a_loss_that_stays_not_a_number_is_said_and_nothing_is_lost(pack, tmp_path, monkeypatch):
    nan_at(monkeypatch, 5, 10)
    with pytest.raises(CheckError, match="not a number in epoch 2"):
        arguments_end(pack, tmp_path / "run")
    assert read_state(tmp_path / "run" / ARCH / "last")[0].epoch == 1


def test_a_full_disk_is_one_sentence_and_leaves_the_last_state(pack, tmp_path, monkeypatch):
    real, calls = state.replacing, []

    def full(path):
        calls.append(path)
        if len(calls) > 1:
            raise OSError(28, "No space left on device")
        return real(path)

    monkeypatch.setattr(state, "replacing", full)
    with pytest.raises(InputError, match=r"No space left on device.*--resume"):
        arguments_end(pack, tmp_path / "run")
    assert read_state(tmp_path / "run" / ARCH / "last")[0].epoch == 1


@pytest.mark.parametrize("room_kib", [1000, 4000])
def test_a_write_that_breaks_off_is_one_sentence_and_the_run_goes_on(run, pack, tmp_path, room_kib):
    """To a writer a file that may grow no further is a full disk: the best checkpoint, or the state, breaks off."""
    out, before = tmp_path / "run", resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room_kib * 1024, before[1]))
    try:
        with pytest.raises(InputError, match=r"cannot be written \(.*File too large.*--resume") as caught:
            arguments_end(pack, out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "\n" not in str(caught.value)
    assert (out / ARCH / "best.safetensors").exists() == (room_kib == 4000)
    assert not list(out.rglob("*.tmp"))
    assert arguments_end(pack, out, "--resume") == 0
    assert_same(run, out)


@pytest.mark.parametrize("room", [0, 300])
def test_events_that_do_not_fit_on_the_disk_are_one_sentence(pack, tmp_path, monkeypatch, capfd, room):
    """The first file that a training writes is TensorBoard's, by a thread."""
    real, before = command.make_jobs, resource.getrlimit(resource.RLIMIT_FSIZE)

    def make_jobs_then_fill(*arguments):
        jobs = real(*arguments)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
        return jobs

    monkeypatch.setattr(command, "make_jobs", make_jobs_then_fill)
    try:
        with pytest.raises(InputError, match=rf"{ARCH} cannot be written \(.*File too large.*--resume"):
            arguments_end(pack, tmp_path / "run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "Traceback" not in capfd.readouterr().err


def test_a_pack_replaced_under_the_run_stops_it(tmp_path, monkeypatch):
    write_small_pack(tmp_path / "pack")
    step = steps_of.train_step

    def replacing_step(*values):
        images = np.load(tmp_path / "pack" / "images.npy")
        np.save(tmp_path / "new.npy", images)
        os.replace(tmp_path / "new.npy", tmp_path / "pack" / "images.npy")
        step(*values)

    monkeypatch.setattr(steps_of, "train_step", replacing_step)
    with pytest.raises(CheckError, match="was replaced while it was trained on"):
        arguments_end(tmp_path / "pack", tmp_path / "run")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--models", "mobilnet_inspired"], "did you mean mobilenet_inspired"),
        (["--models", "timm/mobilenetv4_conv_smal"], "did you mean timm/mobilenetv4_conv_small"),
        (["--recipe", "aftr"], "choose from after, before, edge"),
        (["--batch", "many"], "batch is 'many': give a whole number"),
        (["--hue", "0.7"], "hue is '0.7': give a number from 0 to 0.5"),
        (["--device", "cuda:7"], "--device cuda:7 cannot be used on this machine"),
        (["--pretrained"], "has no pretrained weights"),
        (["--precision", "tf32"], "--precision tf32 needs a GPU, and cpu is not one"),
        (["--cudnn-benchmark", "yes"], "--cudnn-benchmark yes needs a GPU"),
        (["--threads", "-1"], "threads is -1: give a whole number from 1 to"),
        (["--threads", "0"], "threads is 0: give a whole number from 1 to"),
        (["--threads", "999999"], "threads is 999999: give a whole number from 1 to"),
        (["--dropout", ""], "argument --dropout: it is empty, give a value"),
        (["--dropout", "default=0.1+default=0.3"], r"dropout is 'default=0.1\+default=0.3': give a number"),
    ],
)
def test_a_wrong_command_is_one_sentence_and_leaves_nothing(pack, tmp_path, more, message):
    with pytest.raises(InputError, match=message) as caught:
        arguments_end(pack, tmp_path / "run", *more)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_an_existing_run_is_not_overwritten(run, pack):
    with pytest.raises(
        InputError, match=r"is a run already: .*--resume \(make train: ARGS=--resume\), or name another"
    ):
        arguments_end(pack, run)


def test_resuming_with_another_recipe_is_refused_by_the_field(run, pack):
    with pytest.raises(InputError, match="begun with batch 32, not 16"):
        arguments_end(pack, run, "--resume", "--batch", "16")


def test_every_field_of_a_recipe_is_a_flag():
    from training.commands.train import parser
    from training.recipe import overridable

    it: Parser = parser()
    known = {flag for action in it._actions for flag in action.option_strings}
    assert {f"--{item.name}" for item in overridable()} <= known


def test_a_second_signal_is_not_held_back(request):
    # a shell gives its background jobs a deaf SIGINT
    request.addfinalizer(
        partial(signal.signal, signal.SIGINT, signal.signal(signal.SIGINT, signal.default_int_handler))
    )
    with Interrupt() as interrupt:
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupt.signal_number == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_network_of_one_input_size_trains_at_the_size_of_the_pack(pack, tmp_path, capsys):
    """At timm's own 224 px it would refuse the pack's 32, and the half of it with which `edge` begins."""
    arch = ["--models", "timm/vit_tiny_patch16_224", "--epochs", "1", "--batch", "64"]
    assert not main(arguments(pack, tmp_path / "run", *arch))
    network = load_checkpoint(tmp_path / "run" / "timm_vit_tiny_patch16_224" / "best.safetensors").build_network()
    assert network(torch.zeros(1, 32, 32, 3, dtype=torch.uint8)).shape == (1, 3)
    assert "full size from the first epoch" in capsys.readouterr().err


@pytest.mark.parametrize(("risk", "warned"), [("0.001", True), ("0.999", False)])
def test_an_abstain_risk_that_no_threshold_reached_is_a_warning(pack, tmp_path, capsys, risk, warned):
    assert not main(arguments(pack, tmp_path / "run", "--epochs", "1", "--abstain-risk", risk))
    assert (f"more than the {float(risk):.1%} asked for" in capsys.readouterr().err) is warned


def test_the_end_of_a_training_says_how_much_of_val_the_network_answers(pack, tmp_path, capsys):
    assert not main(arguments(pack, tmp_path / "run", "--epochs", "1", "--abstain-risk", "0.999"))
    (file,) = (tmp_path / "run").glob("*/metrics.json")
    abstention = json.loads(file.read_text())["abstention"]
    said = f"answers {abstention['coverage']:.0%} of val, {abstention['risk']:.1%} of these wrongly"
    assert said in capsys.readouterr().err


def test_a_training_of_few_steps_is_told_to_take_more(pack, tmp_path, capsys, monkeypatch):
    assert not main(arguments(pack, tmp_path / "few", "--epochs", "1"))
    assert "steps (1 epochs of 4): take more --epochs" in capsys.readouterr().err
    monkeypatch.setattr(job, "FEW_STEPS", 4)
    assert not main(arguments(pack, tmp_path / "enough", "--epochs", "1"))
    assert "take more --epochs" not in capsys.readouterr().err


@pytest.mark.parametrize(("right", "warned"), [(50, True), (59, True), (61, False), (90, False)])
def test_an_accuracy_that_the_largest_class_alone_would_give_is_a_warning(caplog, right, warned):
    test = {"rows": 100, "accuracy": right / 100, "per_class": {"car": {"rows": 50}, "bus": {"rows": 50}}}
    outputs._warn_of_chance(SimpleNamespace(arch=ARCH), test)
    assert ("is not shown to be above the 50.0% of always answering car" in caplog.text) is warned


def test_a_network_that_cannot_take_the_size_is_refused_before_the_run_is_there(pack, tmp_path):
    wanted = r"timm/inception_next_atto cannot take images of 16 px \(.*\): give --start-size 1"
    with pytest.raises(InputError, match=wanted):
        main(arguments(pack, tmp_path / "run", "--models", "timm/inception_next_atto"))
    assert not (tmp_path / "run").exists()


def test_a_run_begun_before_the_dropout_was_a_mapping_is_resumed(run, pack, tmp_path):
    """run.json of schema 1 has a key for each architecture; a different dropout is refused by name."""
    shutil.copytree(run, tmp_path / "old")
    facts = json.loads((tmp_path / "old" / "run.json").read_text())
    del facts["recipe"]["dropout"]
    old = {f"dropout_{name}": 0.2 for name in ("mobilenet", "squeezenet", "resnet", "other")}
    for schema_1 in (old, old | {"dropout_resnet": 0.5}):
        facts |= {"schema": 1, "recipe": facts["recipe"] | schema_1}
        (tmp_path / "old" / "run.json").write_text(json.dumps(facts))
        if schema_1 == old:
            assert arguments_end(pack, tmp_path / "old", "--resume") == 0
        else:
            with pytest.raises(InputError, match="begun with dropout"):
                arguments_end(pack, tmp_path / "old", "--resume")
