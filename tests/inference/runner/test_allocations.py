"""In steady state a frame allocates no array, and nothing grows.

Counted, from an upright 1280x720 picture to its decision (regions, quality, geometry, engine, smoothing, decision,
summary), after 20 frames of warming up:

- arrays: none, of any size, freed at once or not; also none by OpenCV's binding (`count_arrays`);
- growth: of all that Python and numpy allocate, over 60 frames (tracemalloc), under one small object a frame;
- the peak of one frame above what stands: the decision's own record, in small Python objects (tracemalloc).

Not counted: what a runtime does inside its own arena, the camera's thread, the sinks' threads. The record itself is
unavoidable: it outlives the frame in the sinks' queues.
"""

from __future__ import annotations

import gc
import tracemalloc

import numpy as np
import pytest

from core.geometry.frame import Frame
from core.synthetic import ZONES, Scene
from inference.backends import availability, open_backend
from inference.capture.base import Source
from inference.frame.processor import FrameProcessor
from inference.frame.regions import Zones
from inference.runner.runner import Runner
from tests.bundles import make_bundle
from tests.inference.runner.allocations import count_arrays

FRAMES = 60
RECORD_BYTES = 16_384
"""More than the records of one frame with three zones; a tenth of the smallest picture in here, 224 x 224 x 3."""


class Ring(Source):
    """Gives a few pictures round and round."""

    def __init__(self, frames):
        self._frames, self._n = frames, 0

    def read(self, timeout_s):
        self._n += 1
        return Frame(self._n, 0, self._frames[self._n % 4], self._n * 33_000_000)


@pytest.fixture(scope="module")
def frames():
    scene = Scene(1, 1280, 720, "day")
    return [scene.render(i)[0] for i in range(4)]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("steady") / "bundle", size_px=224)


@pytest.fixture
def step(request, bundle, frames):
    """Run one frame through the runner, from its source to its sinks."""
    if not availability(request.param).available:
        pytest.skip(f"{request.param} is not available")
    backend = open_backend(request.param, bundle, "fp32", batch=3, threads=1)
    zones = Zones({name: ZONES[name] for name in ("left", "ego")} | {"whole": (0.0, 0.0, 1.0, 1.0)})
    runner = Runner(FrameProcessor(bundle, backend, zones), Ring(frames))

    def decide():
        runner.run(runner.stats.frames + 1)

    for _ in range(20):
        decide()
    yield decide
    backend.close()


def test_the_counter_sees_arrays_that_are_dropped_at_once():
    with count_arrays() as sizes:
        np.zeros(10, np.uint8) + np.ones(10, np.uint8)
    assert [size for size in sizes if size == 10] == [10, 10, 10]


@pytest.mark.parametrize("step", ["null", "ort", "openvino"], indirect=True)
def test_a_frame_allocates_no_array(step):
    with count_arrays() as sizes:
        for _ in range(10):
            step()
    assert sizes == []


def growth_and_peak(step):
    """Return the bytes that 60 frames leave behind, and the most that one of them needs for a while."""
    before, peak = tracemalloc.get_traced_memory()[0], 0
    for _ in range(FRAMES):
        tracemalloc.reset_peak()
        stands = tracemalloc.get_traced_memory()[0]
        step()
        peak = max(peak, tracemalloc.get_traced_memory()[1] - stands)
    return tracemalloc.get_traced_memory()[0] - before, peak


@pytest.mark.parametrize("step", ["ort"], indirect=True)
def test_nothing_grows_and_a_frame_needs_no_more_than_its_record(step):
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        for _ in range(FRAMES):  # Python's own free lists fill up
            step()
        windows = [growth_and_peak(step) for _ in range(3)]
    finally:
        tracemalloc.stop()
        gc.enable()
    # what another thread of the test's process keeps once is not of the frames: that would come in every window
    assert min(grown for grown, _ in windows) < FRAMES * 28
    assert min(peak for _, peak in windows) < RECORD_BYTES
