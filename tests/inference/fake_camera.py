"""A camera that fails on demand: a script of what each read does, and a drive of the runner over it."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np

from core.geometry.frame import Frame
from core.synthetic import Scene
from inference.backends import open_backend
from inference.capture.base import EndOfStream, SourceLost
from inference.capture.live import LiveSource, Reader
from inference.frame.processor import FrameConfig, FrameProcessor
from inference.frame.regions import Zones
from inference.runner.camera_health import HealthTimeouts
from inference.runner.heartbeats import SINGLE_PROCESS
from inference.runner.runner import Runner, RunnerConfig
from inference.runner.sink_worker import SinkWorker
from inference.sinks import Sink
from tests.bundles import make_bundle
from tests.waiting import LONGEST_S

FPS = 40.0
TIMEOUTS = HealthTimeouts(
    stale_intervals=LONGEST_S * FPS, hung_s=LONGEST_S, start_s=LONGEST_S, backoff_s=0.02, longest_backoff_s=0.1
)
"""So long that a busy machine is not taken for a stalled camera."""
TIGHT = replace(TIMEOUTS, stale_intervals=2)
ROAD = Scene(seed=1, width=320, height=180, scenario="day").render(0)[0]


def picture(index: int, height: int = 180, width: int = 320) -> np.ndarray:
    """Return the road with new sensor noise."""
    random = np.random.default_rng(index)
    road = np.resize(ROAD, (height, width, 3)) if (height, width) != ROAD.shape[:2] else ROAD
    return (road.astype(np.int16) + random.integers(-3, 4, road.shape)).clip(0, 255).astype(np.uint8)


class FakeCamera(Reader):
    """Calls step(n) for each read over all openings: it returns a picture, raises, or sleeps first. Ends with it."""

    fps = FPS

    def __init__(self, script, state, clock=time.monotonic_ns):
        self._script, self._state, self._clock = script, state, clock

    def open(self):
        self._state.opened += 1
        if (error := self._state.open_error) is not None:
            raise error

    def read(self, frame_id, spare):
        n, self._state.reads = self._state.reads, self._state.reads + 1
        if n >= len(self._script):
            raise EndOfStream
        time.sleep(1 / FPS)
        image = self._script[n]() if callable(self._script[n]) else self._script[n]
        now = self._clock()
        return Frame(frame_id, now, image, now)

    def close(self):
        pass


class PatientSource(LiveSource):
    """A camera whose frames wait until they are taken: scripts count on each of them, on a busy machine too."""

    def __init__(self, *args, **kwargs):
        self.timeouts_s = []
        super().__init__(*args, **kwargs)

    def _capture(self, make_reader, mailbox, spare, stop, frame_id):
        put = mailbox.put

        def put_after_the_last(frame):
            while mailbox._item is not None and not stop.is_set():
                time.sleep(0.001)
            return put(frame)

        mailbox.put = put_after_the_last
        super()._capture(make_reader, mailbox, spare, stop, frame_id)

    def read(self, timeout_s):
        self.timeouts_s.append(timeout_s)
        return super().read(timeout_s)


class Kept(Sink):
    """Keeps every decision."""

    name = "kept"

    def __init__(self):
        self.decisions = []

    def write(self, decision, frame_bgr):
        self.decisions.append(decision)

    def close(self):
        pass


class Awaited(Kept):
    """Tells when a state was said: `picture` is a step of a script that lasts until then."""

    name = "awaited"

    def __init__(self, state):
        super().__init__()
        self._state, self._said = state, threading.Event()

    def write(self, decision, frame_bgr):
        if decision.state is self._state:
            self._said.set()

    def picture(self):
        if not self._said.wait(LONGEST_S):
            raise SourceLost(f"{self._state} was not said within {LONGEST_S} s")
        return picture(9)


def raising(error):
    def step():
        raise error

    return step


def sleeping(seconds, image):
    def step():
        time.sleep(seconds)
        return image

    return step


def good(count, start=0):
    return [picture(start + i) for i in range(count)]


def drive(
    folder,
    script,
    *,
    clock=time.monotonic_ns,
    timeouts=TIMEOUTS,
    backend=None,
    sinks=(),
    frames=None,
    background="clear",
    regions=None,
    process=SINGLE_PROCESS,
    close_s=LONGEST_S,
):
    """Run a script through the runner; return its decisions, the events, and the error it ended with.

    close_s: how long each of `sinks` may take to end.
    """
    bundle = make_bundle(folder / "bundle", background=background)
    regions = regions or Zones({"z": (0.0, 0.0, 1.0, 1.0)})
    config = FrameConfig(smoothing=None, frozen_s=0.2)
    backend = backend or open_backend("null", bundle, "fp32", batch=regions.max_regions)
    processor = FrameProcessor(bundle, backend, regions, config)
    state = SimpleNamespace(opened=0, reads=0, open_error=None)
    source = PatientSource(lambda: FakeCamera(script, state, clock), fps=FPS)
    kept = Kept()
    workers = [SinkWorker(sink, waits=False) for sink in (kept, *sinks)]
    runner = Runner(processor, source, workers, RunnerConfig(timeouts=timeouts, process=process))
    error = None
    try:
        runner.run(frames)
    except Exception as caught:
        error = caught
    source.close()
    for worker in workers:
        worker.close(LONGEST_S if worker.sink is kept else close_s)
    summary = runner.summary()
    states = [event["to"] for event in summary["events"]]
    return SimpleNamespace(
        decisions=kept.decisions, states=states, events=summary["events"], error=error, summary=summary, camera=state,
        timeouts_s=source.timeouts_s,
    )  # fmt: skip
