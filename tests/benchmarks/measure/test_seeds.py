"""Other seeds: which runs they are, how far they differ, whether the choice would hold; bundles of other sizes."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.choose.choice import choose
from benchmarks.choose.policy import Policy
from benchmarks.commands import measure
from benchmarks.measure.candidates import list_candidates
from benchmarks.measure.seeds import find_seeds
from benchmarks.measure.sizes import measure_other_sizes, open_other_sizes
from benchmarks.measure.speed.timed_frames import TimedInput
from benchmarks.report.results_file import read_reports
from benchmarks.results.candidate import NotMeasured
from core.codec import to_json
from core.data.run_dir import open_run
from core.errors import InputError
from core.files import read_json, write_json
from core.geometry.camera_config import CameraConfig
from tests.benchmarks.conftest import WEIGHTS, make_run
from tests.bundles import make_bundle

SURE = Policy(p99_ms=None, margin=0.0001)
"""No budget, and a margin that nobody faster can be shown to keep: the most accurate wins on any machine."""


def as_seed(path, seed, **facts):
    """Say in run.json that a run was trained with a seed."""
    body = read_json(path / "run.json") | {"seed": seed, "recipe": {"name": "edge"}, **facts}
    write_json(path / "run.json", body)
    return path


RIGHT, HALF_BLIND = WEIGHTS["tiny_a"], np.diag(np.array([0.03, 0.03, -0.03], np.float32))
"""HALF_BLIND never says the third class."""


@pytest.fixture(scope="module")
def seeded(tmp_path_factory):
    """Three seeds of one training side by side; in the third, tiny_a has everything wrong."""
    folder = tmp_path_factory.mktemp("seeds")
    for seed, name in enumerate(("mine", "mine1", "mine2")):
        weights = {"tiny_a": -RIGHT if seed == 2 else RIGHT, "tiny_b": HALF_BLIND}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("tests.benchmarks.conftest.WEIGHTS", weights)
            as_seed(make_run(folder / name, precisions=("fp32",)), seed)
        if seed:
            for arch in weights:
                write_json(folder / name / arch / "metrics.json", {"test": {"accuracy": 0.5 + seed / 10}})
    make_bundle(folder / "mine" / "tiny_a" / "bundle_48", size_px=48, precisions=("fp32",))
    write_json(folder / "policy.json", to_json(SURE))
    policy = ["--policy", str(folder / "policy.json")]
    load = ["--sustained", "0.005"]
    assert measure.main([str(folder / "mine"), "--backends", "ort", "--quick", "--threads", "1", *policy, *load]) == 0
    return folder / "mine"


@pytest.fixture
def device(seeded):
    return read_reports(seeded / "report" / "results.json")[0]


def test_runs_beside_it_that_differ_in_the_seed_alone_are_found(seeded):
    assert [run.path.name for run in find_seeds(open_run(seeded), None)] == ["mine1", "mine2"]
    assert find_seeds(open_run(seeded), []) == []
    for name, text in (("broken", "{"), ("begun", (seeded.parent / "mine1" / "run.json").read_text())):
        (seeded.parent / name).mkdir()
        (seeded.parent / name / "run.json").write_text(text)
    beside = [run.path.name for run in find_seeds(open_run(seeded), None)]
    assert beside == ["mine1", "mine2"], "what is broken or only begun is passed over"


def test_mean_and_sd_are_of_the_very_files_of_every_seed(seeded, device):
    spread = device.choice.seeds.accuracy["tiny_a fp32 ort x1"]
    own = device.results.by_name["tiny_a fp32 ort x1"]
    assert spread.n == 3
    assert spread.values[0] == spread.values[1] == own.accuracy.top1
    assert spread.values[2] < 0.5
    assert spread.sd > 0.1
    assert device.choice.seeds.accuracy["tiny_b fp32 ort x1"].sd == 0
    assert "3 seeds:" in (seeded / "report" / "report.html").read_text()


def test_the_choice_that_another_seed_would_not_make_is_said(seeded, device):
    assert device.choice.chosen == "tiny_a fp32 ort x1"
    assert [other.chosen for other in device.choice.seeds.choices] == ["tiny_a fp32 ort x1", "tiny_b fp32 ort x1"]
    said = device.choice.seeds.sentence
    assert "may not hold for another seed" in said
    assert "1 of 2 other seeds (seed 2: tiny_b fp32 ort x1)" in said
    assert said in (seeded / "report" / "report.md").read_text()
    seeds = replace(device.results.seeds, others=device.results.seeds.others[:1])
    assert "The choice holds for another seed" in choose(replace(device.results, seeds=seeds), SURE).seeds.sentence


def test_the_sustained_run_is_written_and_reported(seeded, device):
    sustained = device.results.sustained
    assert sustained.minutes == 0.005
    assert {name for window in sustained.windows for name in window.p50_ms} == set(device.results.by_name)
    assert sustained.sentence in (seeded / "report" / "report.html").read_text()


def test_seeds_without_bundles_still_give_the_spread_of_the_networks(device):
    others = tuple(replace(other, predicted_n={}) for other in device.results.seeds.others)
    seeds = replace(device.results.seeds, trained={"tiny_a": 0.5}, others=others)
    found = choose(replace(device.results, seeds=seeds), SURE).seeds
    assert found.accuracy == {}
    assert "tiny_a as trained: test accuracy 60.0 ± 10.0% over 3 seeds" in found.sentence
    assert "export those runs" in found.sentence


def test_one_seed_says_that_it_is_one(measured_run):
    for page in ("report.html", "report.md"):
        assert "One seed only" in (measured_run / "report" / page).read_text()


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"seed": 0}, "the same seed"),
        ({"seed": 5, "pack": {"path": "pack", "fingerprint": "x"}}, "another pack"),
        ({"recipe": {"name": "after"}}, "another recipe"),
    ],
)
def test_a_named_run_that_is_no_other_seed_is_refused(seeded, tmp_path, facts, said):
    other = tmp_path / "other"
    shutil.copytree(seeded.parent / "mine1", other)
    write_json(other / "run.json", read_json(other / "run.json") | facts)
    with pytest.raises(InputError, match=said):
        find_seeds(open_run(seeded), [other])


def test_a_bundle_of_another_size_is_timed_and_never_chosen(seeded, device):
    sizes = open_other_sizes(open_run(seeded))
    assert set(sizes) == {"tiny_a@48"}
    assert device.results.other_sizes == (), "quick leaves them out"
    timed = TimedInput("synthetic://?frames=2&width=160&height=96", None, CameraConfig(), None)
    (row,) = measure_other_sizes(list_candidates(sizes, ["ort"]), timed, samples=64)
    assert (row.name, row.size_px, row.selectable) == ("tiny_a@48 fp32 ort x1", 48, False)
    assert "for latency only" in row.why_not
    assert isinstance(row.accuracy, NotMeasured)
    assert row.latency.frame_ms.p90 > 0
    assert row.latency.frame_ms.p99 is None
