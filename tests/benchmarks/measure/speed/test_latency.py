"""Turns, noise and the latency cases for pytest-benchmark (`make benchmark-compare RUN=name`)."""

from __future__ import annotations

import json
import os
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.choose.candidate_metrics import metrics_of
from benchmarks.choose.policy import Policy
from benchmarks.choose.rule import reason_infeasible
from benchmarks.measure.candidates import Candidate, available_backends, list_candidates, open_bundles
from benchmarks.measure.measured_set import check_detections, open_side_by_side
from benchmarks.measure.speed.latency import (
    CALLS_PER_TURN,
    compare_times,
    count_warm_ups,
    frame_at,
    measure_noise,
    summarize_latency,
    take_turns,
    zone_processor,
)
from benchmarks.measure.speed.runner_subprocess import run_runner
from benchmarks.measure.speed.timed_frames import EGO, choose_input, synthetic_frames
from benchmarks.results.run import is_same
from core.bundle.contract import open_bundle
from core.data.run_dir import open_run
from core.errors import InputError
from core.geometry.camera_config import read_camera_config
from core.stats import Interval
from inference.backends import open_backend
from inference.commands.run import read_arguments, run_from_args
from inference.detectors import Detections
from inference.frame.detection.detector import Detector
from inference.frame.detection.tracking import Tracker
from inference.frame.orientation import FrameOrientation
from inference.frame.processor import FrameConfig, FrameProcessor, Timings
from inference.frame.quality import FrameQuality
from inference.frame.regions import Zones
from inference.frame.smoothing import TemporalSmoother
from tests.benchmarks.conftest import add_detector, result_of, results_of
from tests.bundles import make_bundle


def candidates_of_run() -> list[Candidate]:
    """Return the candidates of the run named by $RUN (a folder, or a name in runs/); none without it."""
    if not (name := os.environ.get("RUN")):
        return []
    path = Path(name) if Path(name).is_dir() else Path("runs") / name
    try:
        return list_candidates(open_bundles(open_run(path)), available_backends(None))
    except InputError:  # collecting tests must not fail for it: the case below says what is missing
        return []


CASES = [pytest.param(c, id=c.name.replace(" ", "-")) for c in candidates_of_run()] or [
    pytest.param(None, marks=pytest.mark.skip(reason="name a run that holds bundles: RUN=runs/NAME"))
]


@pytest.mark.benchmark(group="frame")
@pytest.mark.parametrize("candidate", CASES)
def test_frame(benchmark, candidate):
    frame = synthetic_frames(1)[0]
    with open_side_by_side([candidate]) as (opened, refused):
        assert not refused
        benchmark(lambda: opened[0][1].process(frame_at(0, frame)))


class Recorder:
    """A frame processor that writes down which one was called, and with what."""

    def __init__(self, name, log):
        self.name, self.log, self.seen = name, log, []
        self.region_source = Zones(EGO)

    def process(self, frame):
        self.log.append(self.name)
        self.seen.append(frame.image_bgr)
        return SimpleNamespace(timings=Timings(0, 0, 500, 0))


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
    assert [s.rounds_ms.size for s in taken] == [40, 40, 40]
    assert taken[0].engine_ms.mean == taken[0].engine_ms.max == 500 / 1e6


def test_a_frame_was_just_written_as_a_camera_writes_it():
    frames, recorder = synthetic_frames(2), Recorder("a", [])
    take_turns([recorder], frames, samples=1)
    timed = recorder.seen[-CALLS_PER_TURN:]
    assert not any(frame is kept for frame in timed for kept in frames)
    assert all(np.array_equal(frame, frames[i % 2]) for i, frame in enumerate(timed))


def test_what_is_timed_is_the_cars_own_processor(tmp_path, monkeypatch):
    """The object that a drive runs and the one that the benchmark times are one class, configured alike."""
    built = []
    honest = FrameProcessor.__init__

    def record(self, bundle, backend, regions, config=None):
        honest(self, bundle, backend, regions, config)
        built.append((type(self), config or FrameConfig()))

    monkeypatch.setattr(FrameProcessor, "__init__", record)
    bundle = make_bundle(tmp_path / "bundle")
    run_from_args(read_arguments([str(bundle.path), "--source", "synthetic://?frames=1&width=160&height=90"]))
    zone_processor(bundle, open_backend("null", bundle, "fp32"))
    assert built[0] == built[1]


@pytest.fixture
def slow(monkeypatch):
    """A function that makes a method take so many milliseconds, all others none."""
    now_ns = [0]
    monkeypatch.setattr("benchmarks.measure.speed.latency.perf_counter_ns", lambda: now_ns[0])

    def make_slow(owner, name, takes_ms):
        work = getattr(owner, name)

        def slowed(*arguments):
            now_ns[0] += takes_ms * 1_000_000
            return work(*arguments)

        monkeypatch.setattr(owner, name, slowed)

    return make_slow


def test_orientation_quality_and_smoothing_are_part_of_the_measured_time(tmp_path, slow):
    for part in ((FrameOrientation, "upright", 1), (FrameQuality, "analyze", 2), (TemporalSmoother, "update", 4)):
        slow(*part)
    bundle = make_bundle(tmp_path / "bundle")
    processor = zone_processor(bundle, open_backend("null", bundle, "fp32"))
    (samples,) = take_turns([processor], synthetic_frames(2, (160, 96)), samples=1)
    assert (samples.rounds_ms == 1 + 2 + 4).all()


BOX = (10, 10, 40, 40, 0.9, 0)


def opened_with_detector(path, *boxes, every=1):
    """A bundle with a detector as a candidate on a backend that answers at once, and a context in which it is open."""
    make_bundle(path)
    candidate = Candidate("tiny", "fp32", "null", 1, add_detector(path, *boxes, every=every))
    return candidate, open_side_by_side([candidate])


def test_detector_and_tracking_are_part_of_the_measured_time(tmp_path, slow):
    slow(Detector, "detect", 3)
    slow(Tracker, "update", 5)
    candidate, context = opened_with_detector(tmp_path / "bundle", BOX, every=3)
    with context as (((_, processor),), _):
        frames = choose_input(None, None, {"tiny": candidate.bundle}).frames
        (samples,) = take_turns([processor], frames, samples=6 * CALLS_PER_TURN)
        assert processor.smoothing is not None
    assert sorted(set(samples.rounds_ms.ravel())) == [0, 3 + 5]
    assert (samples.rounds_ms > 0).mean() == 1 / 3, "as often as in the car"
    (metrics,) = metrics_of(results_of(result_of(times_ms=np.tile(samples.rounds_ms, (20, 1)))))
    assert reason_infeasible(metrics, Policy(p99_ms=8)) is None
    assert "the p99 of a frame, 8 ms, is over the budget" in str(reason_infeasible(metrics, Policy(p99_ms=7)))


@pytest.mark.parametrize("every", [1, 2, 3, 9, 10, 30, 90])
def test_a_detector_that_runs_in_every_nth_call_runs_in_each_call_of_a_turn_alike(every):
    warm_ups, calls = count_warm_ups(every), count()
    detected = np.zeros(CALLS_PER_TURN, int)
    for _ in range(every):
        for call in range(-warm_ups, CALLS_PER_TURN):
            runs = next(calls) % every == 0
            if call >= 0:
                detected[call] += runs
    assert (detected == 1).all()


def test_frames_in_which_a_detector_finds_nothing_are_not_timed(tmp_path):
    candidate, context = opened_with_detector(tmp_path / "bundle", BOX)
    with context as (opened, _):
        frames = choose_input(None, None, {"tiny": candidate.bundle}).frames
        check_detections(opened, frames)
        processor = opened[0][1]
        assert processor.region_source.detector.detect(frames[0]).boxes_n4.shape == (1, 4)
        processor.region_source.detector.detect = lambda frame_bgr: Detections(
            np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64)
        )
        with pytest.raises(InputError, match="finds something in only 0 of the 1 frames"):
            check_detections(opened, frames)


def test_the_frames_are_the_sources_else_those_that_prove_the_detector_else_synthetic(tmp_path):
    plain = make_bundle(tmp_path / "plain")
    make_bundle(tmp_path / "front")
    front = add_detector(tmp_path / "front", BOX)
    source = "synthetic://?frames=2&width=160&height=90"
    for uri, bundle, size in ((source, front, (90, 160)), (None, front, (853, 1280)), (None, plain, (720, 1280))):
        timed = choose_input(uri, None, {"a": bundle})
        assert timed.frames[0].shape[:2] == size
        assert ("golden frames" in timed.source) == (size[0] == 853)


def test_bundles_with_a_detector_only_in_part_are_refused_before_anything_is_measured(tmp_path):
    plain, zones = make_bundle(tmp_path / "plain"), tmp_path / "camera.json"
    for name in ("front", "other"):
        make_bundle(tmp_path / name)
    front, other = add_detector(tmp_path / "front", BOX), add_detector(tmp_path / "other", BOX, BOX)
    zones.write_text(json.dumps({"zones": THREE}))
    for rival in (plain, other):
        with pytest.raises(InputError, match="a and b do not hold the same detector"):
            choose_input(None, None, {"a": front, "b": rival})
        assert choose_input(None, zones, {"a": front, "b": rival}).regions == "the zones of camera.json"
    timed = choose_input(None, None, {"a": front, "b": front})
    assert timed.regions == "the tracked boxes of the detector, whose time is included"
    with open_side_by_side([Candidate("a@48", "fp32", "null", 1, plain)], timed.config) as (((_, processor),), _):
        assert not processor.region_source.fixed, "a bundle of another size gets it too"


THREE = {"left": [0, 0.3, 0.3, 1], "ego": [0.3, 0.3, 0.7, 1], "right": [0.7, 0.3, 1, 1]}


def test_the_zones_of_the_camera_are_timed_in_place_of_the_bundles_detector(tmp_path):
    make_bundle(tmp_path / "bundle")
    bundle, camera = add_detector(tmp_path / "bundle", BOX), tmp_path / "camera.json"
    camera.write_text(json.dumps({"zones": THREE, "rotation": 90}))
    timed = choose_input("synthetic://?frames=2&width=160&height=90", camera, {"tiny": bundle})
    candidate = Candidate("tiny", "fp32", "ort", 1, bundle)
    with open_side_by_side([candidate], timed.config) as (((_, processor),), _):
        result = processor.process(frame_at(0, timed.frames[0]))
    assert [verdict.name for verdict in result.verdicts] == list(THREE)
    assert result.picture_bgr.shape == (160, 90, 3)
    assert run_runner(candidate, timed, 2)["zones"] == list(THREE)


def test_a_camera_that_says_only_how_it_is_mounted_keeps_the_zone_that_is_timed(tmp_path):
    bundle, camera = make_bundle(tmp_path / "bundle"), tmp_path / "camera.json"
    camera.write_text('{"rotation": 180}')
    written = read_camera_config(choose_input(None, camera, {"tiny": bundle}).write_camera(tmp_path / "bundle"))
    assert (list(written.zones), written.rotation) == (["ego"], 180)


def test_the_runner_is_timed_on_the_detector_in_the_bundle(tmp_path):
    make_bundle(tmp_path / "bundle")
    source = "synthetic://?frames=2&width=160&height=90"
    for bundle, zones, uri in (
        (open_bundle(tmp_path / "bundle"), ["ego"], source),
        (add_detector(tmp_path / "bundle", BOX), ["tracks"], None),
    ):
        with choose_input(uri, None, {"tiny": bundle}).for_runner(2) as timed:
            summary = run_runner(Candidate("tiny", "fp32", "ort", 1, bundle), timed, 2)
        assert summary["zones"] == zones
        name = Path(summary["source"]).name
        assert name == ("golden.avi" if uri is None else Path(source).name), "frames with something to find"


def rounds(scale, rng, drift):
    times = drift[:, None] * scale * rng.lognormal(0, 0.01, (len(drift), CALLS_PER_TURN))
    return summarize_latency(times, times * 0.9)


def test_a_shared_drift_does_not_make_a_pair_differ():
    rng = np.random.default_rng(0)
    drift = np.linspace(1, 3, 83)  # the machine becomes three times as slow during the run
    noise = measure_noise("a", [rounds(1, rng, drift)], rounds(1, rng, drift))
    assert noise.same
    assert noise.floor < 0.05
    assert noise.noisy, "a spread this large marks the table even though the pair agrees"


def test_a_slower_control_is_found():
    rng = np.random.default_rng(0)
    drift = np.ones(83)
    noise = measure_noise("a", [rounds(1, rng, drift)], rounds(1.1, rng, drift))
    assert not noise.same
    assert noise.noisy
    assert noise.floor == pytest.approx(0.1, abs=0.02)


def test_neighbours_that_disturb_half_of_the_calls_do_not_hide_a_tenth_more_time():
    """A neighbour adds up to three times the time to every other call; the medians cannot tell, the verdict can."""
    rng = np.random.default_rng(0)

    def disturbed(scale):
        times = scale * rng.lognormal(0, 0.005, (83, CALLS_PER_TURN))
        return summarize_latency(
            times * np.where(rng.random(times.shape) < 0.5, rng.uniform(1, 3, times.shape), 1), times
        )

    first, again, slower = disturbed(1), disturbed(1), disturbed(1.1)
    assert is_same(compare_times(first, again))
    assert not is_same(compare_times(first, slower))
    noise = measure_noise("a", [first], again)
    assert noise.floor >= noise.median_ratio.high - 1, "what is ranked by medians keeps the noise of medians"


@pytest.mark.parametrize(
    ("low", "high", "same"), [(0.99, 1.01, True), (1.02, 1.2, True), (1.03, 1.2, False), (0.8, 0.97, False)]
)
def test_same_is_an_interval_that_touches_the_tolerance(low, high, same):
    assert is_same(Interval(low, high)) is same
