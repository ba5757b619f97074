"""Turns, noise and the latency cases for pytest-benchmark (`make benchmark-compare RUN=name`)."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from benchmarks.candidates import Candidate, list_candidates, open_bundles, runnable
from benchmarks.field import open_pipelines
from benchmarks.frames import ego_rect, synthetic_frames
from benchmarks.latency import CALLS_PER_TURN, Samples, answer, is_same, judge_noise, take_turns
from benchmarks.statistics import Interval
from inference.errors import InputError
from inference.runs import open_run


def candidates_of_run() -> list[Candidate]:
    """Return the candidates of the run named by $RUN (a folder, or a name in runs/); none without it."""
    if not (name := os.environ.get("RUN")):
        return []
    path = Path(name) if Path(name).is_dir() else Path("runs") / name
    try:
        return list_candidates(open_bundles(open_run(path)), runnable(None), [1])
    except InputError:  # collecting tests must not fail for it: the case below says what is missing
        return []


CASES = [pytest.param(c, id=c.name.replace(" ", "-")) for c in candidates_of_run()] or [
    pytest.param(None, marks=pytest.mark.skip(reason="name a run that holds bundles: RUN=runs/NAME"))
]


@pytest.mark.benchmark(group="frame")
@pytest.mark.parametrize("candidate", CASES)
def test_frame(benchmark, candidate):
    frame = synthetic_frames(1)[0]
    with open_pipelines([candidate]) as (pipeline,):
        benchmark(answer, pipeline, frame, candidate.bundle.abstain_threshold)


class Recorder:
    """A pipeline that writes down who was called."""

    def __init__(self, name, log):
        self.name, self.log, self.infer_ns = name, log, 500

    def classify(self, frame, rects):
        self.log.append(self.name)
        return np.array([[0.2, 0.8]], np.float32)


def test_every_round_holds_one_turn_of_everyone():
    log: list[str] = []
    frames = synthetic_frames(2, (160, 96))
    taken = take_turns([Recorder(n, log) for n in "abc"], frames, thresholds=[0, 0, 0], samples=40, seed=3)
    turns = log[30:]  # after the warm-ups
    length = CALLS_PER_TURN + 1
    starts = turns[::length]
    assert turns == [name for name in starts for _ in range(length)]
    rounds = [starts[i : i + 3] for i in range(0, len(starts), 3)]
    assert all(sorted(r) == ["a", "b", "c"] for r in rounds)
    assert len({tuple(r) for r in rounds}) > 1, "the order must change from round to round"
    assert [s.frame_ms.size for s in taken] == [40, 40, 40]
    assert (taken[0].engine_ms == 500 / 1e6).all()


@pytest.mark.parametrize(("threshold", "said"), [(0.5, 1), (0.8, 1), (0.9, -1)])
def test_a_top_probability_under_the_threshold_is_unknown(threshold, said):
    assert answer(Recorder("a", []), synthetic_frames(1, (160, 96))[0], np.float32(threshold)) == said


def test_the_zone_is_the_same_part_of_any_frame():
    small, large = ego_rect(np.zeros((360, 640, 3), np.uint8)), ego_rect(np.zeros((720, 1280, 3), np.uint8))
    assert tuple(2 * edge for edge in small) == pytest.approx(large, abs=2)


def rounds(scale, rng, drift):
    times = drift[:, None] * scale * rng.lognormal(0, 0.01, (len(drift), CALLS_PER_TURN))
    return Samples(times, times * 0.9)


def test_a_shared_drift_does_not_make_a_pair_differ():
    rng = np.random.default_rng(0)
    drift = np.linspace(1, 3, 83)  # the machine becomes three times as slow during the run
    noise = judge_noise(rounds(1, rng, drift), rounds(1, rng, drift), [rounds(1, rng, drift)])
    assert noise.same
    assert noise.noisy, "a spread this large marks the table even though the pair agrees"


def test_a_slower_twin_is_found():
    rng = np.random.default_rng(0)
    drift = np.ones(83)
    noise = judge_noise(rounds(1, rng, drift), rounds(1.1, rng, drift), [rounds(1, rng, drift)])
    assert not noise.same
    assert noise.noisy
    assert noise.floor == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize(
    ("low", "high", "same"), [(0.99, 1.01, True), (1.02, 1.2, True), (1.03, 1.2, False), (0.8, 0.97, False)]
)
def test_same_is_an_interval_that_touches_the_tolerance(low, high, same):
    assert is_same(Interval(low, high)) is same
