import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.weightstats import DescrStatsW

from core.errors import CheckError, InputError
from tests.export.runs import write_small_pack
from training import recipes
from training.commands.compare import main
from training.commands.train import OWN_ARCHITECTURES
from training.compare.comparison import Trial, run_trials, student_interval, summarize
from training.compare.page import format_difference
from training.compare.variants import CHANGES, Variant, ablations, parse_variant
from training.recipe import Recipe

ARCH = "squeezenet_inspired"


def test_every_field_of_a_recipe_belongs_to_ablations():
    grouped = [name for names in CHANGES.values() for name in names]
    assert sorted(grouped) == sorted({f.name for f in fields(Recipe)} - {"name", "epochs"})


@pytest.mark.parametrize(("start", "end"), [("before", "after"), ("edge", "after")])
def test_all_changes_together_lead_from_one_recipe_to_the_other(start, end):
    changes = {name: text for variant in ablations(start, end, OWN_ARCHITECTURES) for name, text in variant.fields}
    arrived = recipes.load_recipe(start).with_overrides(changes).as_json()
    wanted = recipes.load_recipe(end).as_json()
    assert arrived | {"name": 0, "epochs": 0} == wanted | {"name": 0, "epochs": 0}


def test_each_variant_of_an_ablation_differs_by_ablations():
    first, *others = ablations("before", "after", OWN_ARCHITECTURES)
    assert first.resolve() == recipes.load_recipe("before")
    for variant in others:
        changed = {name for name, _ in variant.fields}
        assert any(changed <= set(names) for names in CHANGES.values()), variant
        assert variant.resolve() != recipes.load_recipe("before")


@pytest.mark.parametrize(("archs", "is_one"), [([ARCH], False), ([ARCH, "mobilenet_inspired"], True)])
def test_a_dropout_that_no_compared_network_has_is_no_change(archs, is_one):
    assert any("dropout" in variant.name for variant in ablations("before", "after", archs)) is is_one


def test_a_variant_is_a_recipe_with_fields_set():
    assert parse_variant("edge:batch=16,mix_p=0.25").resolve() == recipes.load_recipe("edge").with_overrides(
        {"batch": "16", "mix_p": "0.25"}
    )


def test_folders_of_different_variants_differ():
    variants = [*ablations("before", "after", OWN_ARCHITECTURES), parse_variant("edge:batch=16"), parse_variant("edge")]
    names = [variant.folder for variant in variants]
    assert len(set(names)) == len(names)
    assert not any(set(name) & set(" :=,/") for name in names)


@given(st.text(max_size=30))
def test_any_text_is_a_variant_or_one_sentence(text):
    with contextlib.suppress(InputError):  # and no other error
        assert parse_variant(text).recipe in recipes.names()


@pytest.mark.parametrize("text", ["edge:batch", "edge:batch=", "edge:size=3", "edge:batch=x", "edges", "edge:"])
def test_a_wrong_variant_is_refused(text):
    with pytest.raises(InputError):
        parse_variant(text)


def test_epochs_of_a_variant_stand_over_those_of_the_comparison():
    assert Variant("a", "after", (("epochs", "100"),)).flags(30)[-2:] == ["--epochs", "100"]
    assert Variant("a", "after").flags(30)[-2:] == ["--epochs", "30"]


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=8))
def test_the_interval_is_students(values):
    low, high = DescrStatsW(np.array(values)).tconfint_mean(0.05)
    ours = student_interval(values)
    np.testing.assert_allclose([ours.low, ours.high], [low, high], atol=1e-12)


def row(variant, seed, accuracy):
    names = ("test_balanced_accuracy", "val_accuracy", "ece_before_temperature", "ece", "seconds", "images_per_s",
             "best_epoch", "epochs", "clipped", "loss_spike")  # fmt: skip
    return {"arch": "a", "variant": variant, "seed": seed, "test_accuracy": accuracy, **dict.fromkeys(names, 1.0)}


def test_differences_are_paired_by_seed():
    rows = [row("x", s, 0.1 * s) for s in range(4)] + [row("y", s, 0.1 * s + 0.05) for s in (0, 1, 2, 9)]
    summary = {s["variant"]: s for s in summarize(rows, "x")}
    found = summary["y"]["difference"]
    assert found["n"] == 3  # seed 9 has no partner
    np.testing.assert_allclose([found["mean"], found["low"], found["high"]], 0.05)  # no noise is left between pairs


def test_a_seed_that_was_paused_does_not_tell_the_seconds():
    rows = [row("x", seed, 0.5) | {"seconds": seconds} for seed, seconds in enumerate((10, 11, 900, 10, 11))]
    assert summarize(rows, "x")[0]["seconds"] == 11


def test_one_seed_has_no_interval_and_says_so():
    found = {s["variant"]: s for s in summarize([row("x", 0, 0.5), row("y", 0, 0.6)], "x")}["y"]
    assert format_difference(found["difference"]) == "+10.0 (one seed)"
    assert found["test_accuracy_sd"] is None


def trial(folder, name, code, seed=0):
    run = folder / name
    script = f"import pathlib; r = pathlib.Path({str(run)!r}); r.mkdir(exist_ok=True); {code}"
    return Trial(Variant(name, "edge"), seed, run, (sys.executable, "-S", "-c", script))


FINISH = "(r/'a').mkdir(exist_ok=True); (r/'run.json').touch(); (r/'a'/'metrics.json').touch()"


def test_what_is_finished_is_not_trained_again(tmp_path):
    count = "(r/'count').open('a').write('x'); "
    trials = [trial(tmp_path, name, count + FINISH) for name in ("p", "q", "r")]
    run_trials(trials, ["a"], 2)
    run_trials(trials, ["a"], 2)
    assert [(t.run / "count").read_text() for t in trials] == ["x"] * 3


def test_a_trial_that_fails_is_named_with_its_log(tmp_path):
    trials = [trial(tmp_path, "p", FINISH), trial(tmp_path, "q", "raise SystemExit('out of paper')")]
    with pytest.raises(CheckError, match=r"q\.log says why"):
        run_trials(trials, ["a"], 1)
    assert "out of paper" in (tmp_path / "q.log").read_text()


def test_what_is_told_to_end_ends_its_trials_too(tmp_path):
    """The trial tells that it was ended; without that it would train on with nobody to ask for it."""
    script = (
        "import os, signal, sys, time; f = lambda *_: (open(sys.argv[1], 'w').close(), sys.exit());"
        " signal.signal(signal.SIGTERM, f); os.kill(os.getppid(), signal.SIGTERM); time.sleep(60)"
    )
    command = (sys.executable, "-S", "-c", script, str(tmp_path / "told"))
    with pytest.raises(SystemExit) as ended:
        run_trials([Trial(Variant("edge", "edge"), 0, tmp_path / "run", command)], ["a"], 1)
    assert ended.value.code == 128 + signal.SIGTERM
    assert (tmp_path / "told").exists()


def test_a_trial_that_was_being_started_at_the_signal_ends_too(tmp_path, monkeypatch):
    started, popen = [], subprocess.Popen

    def start_and_stop(*arguments, **options):
        started.append(popen(*arguments, **options))
        os.kill(os.getpid(), signal.SIGTERM)
        return started[0]

    monkeypatch.setattr(subprocess, "Popen", start_and_stop)
    with pytest.raises(SystemExit):
        run_trials([trial(tmp_path, "p", "import time; time.sleep(600)")], ["a"], 1)
    assert started[0].poll() == -signal.SIGTERM


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A pack, and `before` and `edge` compared on it for an epoch, in c."""
    it = tmp_path_factory.mktemp("compared")
    write_small_pack(it / "pack")
    assert not main(["before", "edge", *options(it)])
    return it


def options(folder):
    return ["--pack", str(folder / "pack"), "--out", str(folder / "c"), "--models", ARCH, "--seeds", "1",
            "--epochs", "1", "--threads", "1"]  # fmt: skip


def test_the_comparison_is_made_of_runs_and_leaves_table_and_picture(folder, capsys):
    assert not main(["before", "edge", *options(folder), "--table-only"])
    page = capsys.readouterr().out
    assert page == (folder / "c/compare.md").read_text()
    assert f"## {ARCH}" in page
    assert (folder / "c/compare.png").stat().st_size > 10_000
    modes = [json.loads((folder / "c" / v / "seed0/run.json").read_text())["modes"] for v in ("before", "edge")]
    assert modes[0] == modes[1]
    found = json.loads((folder / "c/compare.json").read_text())
    metrics = json.loads((folder / "c/edge/seed0" / ARCH / "metrics.json").read_text())
    assert found["summary"][1]["test_accuracy"] == metrics["test"]["accuracy"]


def test_an_ablation_is_named_by_its_two_recipes(folder, capsys):
    assert not main(["--ablate", "before", "edge", *options(folder), "--table-only", "--name", "ablation"])
    assert capsys.readouterr().out.startswith(f"# before with each single change of edge on {folder.name}\n")


def test_comparisons_in_one_folder_share_runs_and_not_tables(folder, tmp_path):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    first = (tmp_path / "c/compare.json").read_bytes()
    shared = (tmp_path / "c/edge/seed0" / ARCH / "metrics.json").stat().st_mtime_ns
    assert not main(["after", "edge", *options(tmp_path), "--name", "two"])
    assert (tmp_path / "c/compare.json").read_bytes() == first
    assert (tmp_path / "c/edge/seed0" / ARCH / "metrics.json").stat().st_mtime_ns == shared
    assert {p.name for p in (tmp_path / "c").glob("two.*")} == {"two.json", "two.md", "two.png"}


def test_a_new_variant_takes_the_modes_of_the_runs_that_are_there(folder, tmp_path):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    unlikely = {ARCH: {"precision": "fp16", "memory_format": "contiguous", "compiled": False}}
    for variant in ("before", "edge"):
        facts = json.loads((tmp_path / "c" / variant / "seed0/run.json").read_text())
        (tmp_path / "c" / variant / "seed0/run.json").write_text(json.dumps(facts | {"modes": unlikely}))
    assert not main(["after", "edge", *options(tmp_path)])
    assert json.loads((tmp_path / "c/after/seed0/run.json").read_text())["modes"] == unlikely


def test_a_trial_waits_for_the_run_whose_modes_it_takes(tmp_path):
    first = trial(tmp_path, "p", "import time; time.sleep(1); " + FINISH)
    other = trial(tmp_path, "q", f"assert pathlib.Path({str(first.run / 'run.json')!r}).exists(); " + FINISH)
    run_trials([replace(other, mode_from=first.run), first], ["a"], 2)
    assert other.is_finished(["a"])


@pytest.mark.parametrize(
    ("words", "message"),
    [(["edge"], "two variants"), (["edge", "after", "--against", "before"], "none of the variants"),
     (["edge", "after", "--seeds", "0"], "1 or more"), (["edge", "nothing"], "no recipe"),
     (["edge", "after", "--name", "a/b"], "without a slash")],
)  # fmt: skip
def test_a_wrong_comparison_is_one_sentence(tmp_path, words, message):
    with pytest.raises(InputError, match=message):
        main([*words, "--pack", str(tmp_path), "--out", str(tmp_path / "c")])
