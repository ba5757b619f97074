"""Turns, noise and the latency cases for pytest-benchmark (`make benchmark-compare RUN=name`)."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from benchmarks.measure.candidates import Candidate, list_candidates, open_bundles, runnable
from benchmarks.measure.frames import synthetic_frames
from benchmarks.measure.measured_set import open_field
from benchmarks.measure.speed.latency import CALLS_PER_TURN, HotPath, Samples, compare, is_same, judge_noise, take_turns
from core.data.run_dir import open_run
from core.errors import InputError
from core.geometry.camera_config import Camera
from core.geometry.frame import Frame
from core.stats import Interval
from core.synthetic import ZONES
from inference.backends import open_backend
from inference.frame.orientation import Mounting
from inference.frame.processor import Pipeline
from inference.frame.quality import Sight
from inference.frame.regions import Zones
from inference.frame.smoothing import Habits, Steady
from inference.runner.runner import Runner
from inference.sources import open_source
from tests.bundles import make_bundle


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
    with open_field([candidate]) as (opened, refused):
        assert not refused
        benchmark(opened[0][1].answer, frame)


class Recorder:
    """A hot path that writes down who was called."""

    infer_ns = 500

    def __init__(self, name, log):
        self.name, self.log, self.pipeline = name, log, self

    def answer(self, frame):
        self.log.append(self.name)


def test_every_round_holds_one_turn_of_everyone():
    log: list[str] = []
    frames = synthetic_frames(2, (160, 96))
    taken = take_turns([Recorder(n, log) for n in "abc"], frames, samples=40, seed=3)
    length = CALLS_PER_TURN + 1
    turns = log[3 * length :]  # after the warm-up round
    starts = turns[::length]
    assert turns == [name for name in starts for _ in range(length)]
    rounds = [starts[i : i + 3] for i in range(0, len(starts), 3)]
    assert all(sorted(r) == ["a", "b", "c"] for r in rounds)
    assert len({tuple(r) for r in rounds}) > 1, "the order must change from round to round"
    assert [s.frame_ms.size for s in taken] == [40, 40, 40]
    assert (taken[0].engine_ms == 500 / 1e6).all()


def test_a_frame_was_just_written_as_a_camera_writes_it():
    seen, frames = [], synthetic_frames(2)
    recorder = Recorder("a", [])
    recorder.answer = seen.append
    take_turns([recorder], frames, samples=1)
    timed = seen[-CALLS_PER_TURN:]
    assert not any(frame is kept for frame in timed for kept in frames)
    assert all(np.array_equal(frame, frames[i % 2]) for i, frame in enumerate(timed))


def test_the_hot_path_answers_as_the_car_does(tmp_path):
    """The same frame through the benchmark's path and through the runner: the same verdict on the ego zone."""
    bundle = make_bundle(tmp_path / "bundle")
    frame = synthetic_frames(1)[0]
    backend = open_backend("ort", bundle, "fp32", batch=3, threads=1)
    pipeline = Pipeline(bundle, backend)
    source, mounting = open_source("synthetic://"), Mounting(Camera())
    runner = Runner(bundle, pipeline, source, Zones(ZONES), mounting, [], (), habits=Habits())
    said = runner.decide(Frame(0, 0, frame), frame)
    expected = next(v for v in said.verdicts if v.name == "ego")
    assert HotPath(bundle, pipeline).answer(frame) == (expected,)


def test_orientation_quality_and_smoothing_are_part_of_the_measured_time(tmp_path, monkeypatch):
    now_ns = [0]
    monkeypatch.setattr("benchmarks.measure.speed.latency.perf_counter_ns", lambda: now_ns[0])

    def slowed(work, takes_ms):
        def slow(*arguments):
            now_ns[0] += takes_ms * 1_000_000
            return work(*arguments)

        return slow

    for owner, name, takes_ms in ((Mounting, "upright", 1), (Sight, "look", 2), (Steady, "settle", 4)):
        monkeypatch.setattr(owner, name, slowed(getattr(owner, name), takes_ms))
    bundle = make_bundle(tmp_path / "bundle")
    path = HotPath(bundle, Pipeline(bundle, open_backend("null", bundle, "fp32")))
    (samples,) = take_turns([path], synthetic_frames(2, (160, 96)), samples=1)
    assert (samples.frame_ms == 1 + 2 + 4).all()


def rounds(scale, rng, drift):
    times = drift[:, None] * scale * rng.lognormal(0, 0.01, (len(drift), CALLS_PER_TURN))
    return Samples(times, times * 0.9)


def test_a_shared_drift_does_not_make_a_pair_differ():
    rng = np.random.default_rng(0)
    drift = np.linspace(1, 3, 83)  # the machine becomes three times as slow during the run
    noise = judge_noise(rounds(1, rng, drift), rounds(1, rng, drift), [rounds(1, rng, drift)])
    assert noise.same
    assert noise.floor < 0.05
    assert noise.noisy, "a spread this large marks the table even though the pair agrees"


def test_a_slower_twin_is_found():
    rng = np.random.default_rng(0)
    drift = np.ones(83)
    noise = judge_noise(rounds(1, rng, drift), rounds(1.1, rng, drift), [rounds(1, rng, drift)])
    assert not noise.same
    assert noise.noisy
    assert noise.floor == pytest.approx(0.1, abs=0.02)


def test_neighbours_that_disturb_half_of_the_calls_do_not_hide_a_tenth_more_time():
    """A neighbour adds up to three times the time to every other call; the medians cannot tell, the verdict can."""
    rng = np.random.default_rng(0)

    def disturbed(scale):
        times = scale * rng.lognormal(0, 0.005, (83, CALLS_PER_TURN))
        return Samples(times * np.where(rng.random(times.shape) < 0.5, rng.uniform(1, 3, times.shape), 1), times)

    one, twin, slower = disturbed(1), disturbed(1), disturbed(1.1)
    assert is_same(compare(one, twin))
    assert not is_same(compare(one, slower))
    noise = judge_noise(one, twin, [one])
    assert noise.floor >= noise.median_ratio.high - 1, "what is ranked by medians keeps the noise of medians"


@pytest.mark.parametrize(
    ("low", "high", "same"), [(0.99, 1.01, True), (1.02, 1.2, True), (1.03, 1.2, False), (0.8, 0.97, False)]
)
def test_same_is_an_interval_that_touches_the_tolerance(low, high, same):
    assert is_same(Interval(low, high)) is same
