"""Thread counts: measured by the benchmark for each candidate, unless they are given."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.commands import measure
from benchmarks.measure import threads
from benchmarks.measure.candidates import Candidate, list_candidates, open_bundles
from benchmarks.measure.measured_set import open_side_by_side
from benchmarks.measure.speed.latency import summarize_latency
from benchmarks.measure.speed.timed_frames import TimedInput
from benchmarks.measure.threads import best_count, candidates_by_threads, thread_counts
from core.data.run_dir import open_run
from core.geometry.camera_config import CameraConfig
from core.geometry.detector_config import DetectorFile
from inference.frame.processor import FrameConfig
from tests.bundles import make_bundle
from tests.inference.runner.test_region_choice import write_detector

SMALL = TimedInput("synthetic://?frames=1&width=160&height=90", None, CameraConfig(), None)


@pytest.fixture
def timed(monkeypatch):
    """Four cores on which two threads are the fastest; the counts that were opened and timed, a list a candidate."""
    timed = []

    def take_turns(paths, frames, *, samples):
        opened = [path.classifier.backend.describe()["threads"] for path in paths]
        timed.append(opened)
        return [summarize_latency(ms := np.full((1, 8), {1: 3.0, 2: 1.0, 4: 2.0}[count]), ms) for count in opened]

    monkeypatch.setattr(threads, "cores", lambda: 4)
    monkeypatch.setattr(threads, "take_turns", take_turns)
    return timed


def candidates_of(run, *backends):
    return list_candidates(open_bundles(open_run(run)), backends)


def test_without_a_count_each_candidate_gets_the_one_that_is_measured_to_be_its_best(small_run, timed):
    asked = measure.request_of(measure.parse([str(small_run)])).threads
    found = candidates_by_threads(candidates_of(small_run, "ort", "openvino"), asked, SMALL)
    assert [candidate.name for candidate in found] == ["tiny_a fp32 ort x2", "tiny_a fp32 openvino x2"]
    assert timed == [[1, 2, 4], [1, 2, 4]]


def test_given_counts_are_candidates_each_and_nothing_is_timed_for_them(small_run, timed):
    asked = measure.request_of(measure.parse([str(small_run), "--threads", "1", "4"])).threads
    found = candidates_by_threads(candidates_of(small_run, "ort"), asked, SMALL)
    assert [candidate.threads for candidate in found] == [1, 4]
    assert not timed


def test_a_device_that_is_no_cpu_has_no_count_to_measure(small_run, timed, monkeypatch):
    monkeypatch.setattr("inference.backends.null.NullBackend.describe", lambda self: {"device": "a GPU"})
    (found,) = candidates_by_threads(candidates_of(small_run, "null"), None, SMALL)
    assert (found.threads, timed) == (1, [])


@given(st.dictionaries(st.integers(1, 64), st.floats(0.01, 100), min_size=1, max_size=7))
def test_the_smallest_count_about_as_fast_as_the_fastest_is_taken(medians):
    taken = best_count(medians)
    assert medians[taken] <= 1.1 * min(medians.values())
    assert not [n for n in medians if n < taken and medians[n] <= 1.1 * min(medians.values())]


@pytest.mark.parametrize(("most", "tried"), [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8])])
def test_powers_of_two_and_all_are_tried(most, tried):
    assert thread_counts(most) == tried


def test_the_benchmark_opens_a_candidate_beside_a_detector_as_the_car_does(tmp_path):
    bundle, file = make_bundle(tmp_path / "bundle"), DetectorFile(write_detector(tmp_path / "d.onnx"))
    spins = []
    for camera in (CameraConfig(detector=file), CameraConfig()):
        with open_side_by_side([Candidate("tiny", "fp32", "ort", 2, bundle)], FrameConfig(camera)) as (
            ((_, opened),),
            _,
        ):
            options = opened.classifier.backend._session.get_session_options()
            spins.append(options.get_session_config_entry("session.intra_op.allow_spinning"))
    assert spins == ["0", "1"]
