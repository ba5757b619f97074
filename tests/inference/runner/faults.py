"""The table of faults: what goes wrong with a camera for a while, what must be said of it, and how soon.

Limits are those of a camera of 30 frames/s with the timeouts of the car. `measure` drives the real runner over a
camera that is good, then faulty, then good again.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from types import SimpleNamespace

import cv2
import numpy as np

from core.geometry.frame import Frame
from inference.backends import open_backend
from inference.capture.base import EndOfStream, SourceLost
from inference.capture.live import LiveSource, Reader
from inference.capture.reader import CaptureReader
from inference.frame.processor import FrameConfig, FrameProcessor
from inference.frame.regions import Zones
from inference.frame.states import State
from inference.runner.camera_health import HealthTimeouts
from inference.runner.runner import Runner, RunnerConfig
from inference.runner.sink_worker import SinkWorker
from inference.sinks import Sink
from inference.sinks.jsonl import JsonlSink
from inference.sinks.recorder import RecorderSink
from tests.bundles import make_bundle
from tests.inference.fake_camera import picture
from tests.waiting import LONGEST_S

FPS = 30.0
INTERVAL_MS = 1000 / FPS
SIZE = (320, 180)
HIDDEN = np.random.default_rng(0).normal(80, 6, (4, 180, 320, 3)).clip(0, 255).astype(np.uint8)
"""A covered lens: nothing but the sensor's noise."""


@dataclass(frozen=True)
class Fault:
    """What goes wrong. `act(stage)` does a read of the camera while it lasts: it returns a picture or raises."""

    name: str
    state: State
    within_ms: float
    """From the first faulty read to the first decision in `state`; for OK, until nothing else is said any more."""
    back_ms: float
    """From the moment the camera is good again to the first OK."""
    act: Callable
    lasts_s: float = 0.3
    """It lasts longer where a busy machine takes longer to say `state`, or eight decisions for OK."""
    opens: bool = True
    """Whether the camera can be opened again meanwhile."""
    sinks: Callable = lambda folder: []
    reader: Callable | None = None
    also: Callable = lambda done: True
    """What must hold besides."""


@dataclass
class Stage:
    """The phases of one drive, shared by every opening of its camera: before, during, after, end."""

    fault: Fault
    before_s: float
    after_s: float
    reads: int = 0
    opened: int = 0
    decisions: list = field(default_factory=list)
    _begun_ns: dict[str, int] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def phase(self) -> str:
        """Return the phase, which goes on after its time once what it must show was said."""
        with self._lock:
            now = time.monotonic_ns()
            self._begun_ns.setdefault("before", now)
            phase = list(self._begun_ns)[-1]
            spent_s = (now - self._begun_ns[phase]) / 1e9
            least_s = {"before": self.before_s, "during": self.fault.lasts_s, "after": self.after_s, "end": math.inf}
            if spent_s > least_s[phase] and (self._is_said(phase) or spent_s > LONGEST_S):
                phase = {"before": "during", "during": "after", "after": "end"}[phase]
                self._begun_ns[phase] = now
            return phase

    def _is_said(self, phase: str) -> bool:
        states = [decision.state for at, decision in self.decisions if at >= self._begun_ns[phase]]
        if phase == "during" and self.fault.state is State.OK:
            return len(states) >= 8
        return (self.fault.state if phase == "during" else State.OK) in states

    @property
    def began_ns(self) -> int:
        """When the camera was faulty first."""
        return self._begun_ns["during"]

    @property
    def ended_ns(self) -> int:
        """When the camera was good again."""
        return self._begun_ns["after"]

    def next_picture(self) -> np.ndarray:
        self.reads += 1
        return picture(self.reads % 64)


class FaultyCamera(Reader):
    """Good, then what its fault does, then good."""

    fps = FPS

    def __init__(self, stage):
        self.stage = stage

    def open(self):
        stage = self.stage
        stage.opened += 1
        if not stage.fault.opens and stage.phase() == "during":
            raise SourceLost("it does not open")

    def read(self, frame_id, spare):
        stage = self.stage
        phase = stage.phase()
        if phase == "end":
            raise EndOfStream
        if phase == "during":
            image, now = self.act(stage)
        else:
            time.sleep(1 / FPS)
            image, now = stage.next_picture(), time.monotonic_ns()
        return Frame(frame_id, now, image, now)

    def act(self, stage):
        return stage.fault.act(stage), time.monotonic_ns()

    def close(self):
        pass


class TornPackets(FaultyCamera):
    """Sends JPEGs, of which the end is missing while the fault lasts, through the real reader."""

    def open(self):
        super().open()
        self._reader = CaptureReader("cam", "cam", cv2.CAP_FFMPEG)
        self._reader._capture, self._reader._packets = self, True

    def read(self, frame_id, spare):
        if self.stage.phase() == "end":
            raise EndOfStream
        return self._reader.read(frame_id, spare)

    def grab(self):
        time.sleep(1 / FPS)
        return True

    def retrieve(self, spare):
        jpeg = cv2.imencode(".jpg", self.stage.next_picture())[1].ravel()
        return True, jpeg[: len(jpeg) * 2 // 3][None] if self.stage.phase() == "during" else jpeg[None]


class JumpingClock(FaultyCamera):
    """Its time stamps jump back by an hour."""

    def act(self, stage):
        time.sleep(1 / FPS)
        return stage.next_picture(), time.monotonic_ns() - 3600 * 10**9


class Kept(Sink):
    """Keeps every decision with the time it was handed over."""

    name = "kept"

    def __init__(self, stage):
        self._stage = stage

    def write(self, decision, frame_bgr):
        self._stage.decisions.append((time.monotonic_ns(), decision))

    def close(self):
        pass


class Blocked(Sink):
    """Takes one decision and never comes back."""

    name, queue_size = "blocked", 2

    def write(self, decision, frame_bgr):
        time.sleep(LONGEST_S)

    def close(self):
        pass


class FullRecorder(RecorderSink):
    """A recorder whose disk is full after its first frame."""

    def write(self, decision, frame_bgr):
        super().write(decision, frame_bgr)
        self._writer._pictures = Path("/dev/full").open("ab")  # noqa: SIM115


def paced(make, rate=1.0):
    """Return what a read does that gives make(stage) at `rate` times the nominal rate."""

    def act(stage):
        time.sleep(1 / FPS / rate)
        return make(stage)

    return act


def good(stage):
    return stage.next_picture()


def sleeps(stage):
    while stage.phase() == "during":
        time.sleep(0.002)
    return good(stage)


def unplugged(stage):
    raise SourceLost("unplugged")


def full_disk(folder):
    (folder / "full").symlink_to("/dev/full")
    return [JsonlSink(folder / "full")]


def full_recorder(folder):
    source = SimpleNamespace(fps=FPS, sequence=True, live=True, synthetic=False)
    return [FullRecorder(folder / "recording", source, {}, (), 10**8)]


def covered(stage):
    stage.reads += 1
    return HIDDEN[stage.reads % len(HIDDEN)]


def grey(stage):
    return cv2.cvtColor(cv2.cvtColor(good(stage), cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)


def flat(level):
    return lambda stage: np.full((SIZE[1], SIZE[0], 3), level, np.uint8)


ONE = 2 * INTERVAL_MS + 20
"""A bad read may just have begun, a good one takes an interval, and the decision its time."""
FROZEN_MS = FrameConfig.frozen_s * 1000 + 2 * ONE
STALE_MS = (HealthTimeouts.stale_intervals + 1) * INTERVAL_MS + 10
FAULTS = [
    Fault("disconnect", State.LOST, 50, 1000, unplugged, opens=False),
    Fault("stall", State.STALE, STALE_MS, ONE, sleeps),
    Fault("driver hangs", State.LOST, HealthTimeouts.hung_s * 1000 + ONE, 1000, sleeps, lasts_s=2.4),
    Fault("3x rate", State.OK, 0, ONE, paced(good, 3)),
    Fault("half rate", State.OK, 500, ONE, paced(good, 0.5), lasts_s=0.8),
    Fault("truncated JPEG", State.LOST, 10 * INTERVAL_MS + 2 * ONE, 1000, good, reader=TornPackets, lasts_s=0.5),
    Fault("resolution change", State.OK, 0, ONE, paced(lambda stage: cv2.resize(good(stage), (200, 160)))),
    Fault("grayscale frames", State.OK, 0, ONE, paced(grey)),
    Fault("frozen picture", State.STALE, FROZEN_MS, ONE, paced(lambda stage: picture(3)), lasts_s=0.7),
    Fault("black", State.BLIND, ONE, ONE, paced(flat(0)), lasts_s=0.2),
    Fault("saturated", State.BLIND, ONE, ONE, paced(flat(255)), lasts_s=0.2),
    Fault("covered lens", State.BLIND, ONE, ONE, paced(covered)),
    Fault("time jumping backwards", State.OK, 0, ONE, good, reader=JumpingClock),
    Fault(
        "sink blocked", State.OK, 0, ONE, paced(good), sinks=lambda folder: [Blocked()],
        also=lambda done: done.summary["sinks"]["blocked"]["dropped"] > 0,
    ),
    Fault(
        "disk full under the recorder", State.OK, 0, ONE, paced(good), sinks=full_recorder,
        also=lambda done: "No space" in done.summary["sinks"]["recorder"]["error"],
    ),
    Fault(
        "disk full under decisions.jsonl", State.OK, 0, ONE, paced(good), sinks=full_disk,
        also=lambda done: "No space" in done.summary["sinks"]["decisions.jsonl"]["error"],
    ),
]  # fmt: skip


def drive(fault, folder, *, before_s=0.2, after_s=0.35, timeouts=None):
    """Run the real runner over a fault; return the stage, the summary, and how it ended."""
    bundle = make_bundle(folder / "bundle")
    stage = Stage(fault, before_s, after_s)
    make = fault.reader or FaultyCamera
    source = LiveSource(lambda: make(stage), fps=FPS)
    workers = [SinkWorker(sink, waits=False) for sink in (Kept(stage), *fault.sinks(folder))]
    zones, config = Zones({"z": (0.0, 0.0, 1.0, 1.0)}), FrameConfig(smoothing=None)
    processor = FrameProcessor(bundle, open_backend("null", bundle, "fp32"), zones, config)
    runner = Runner(processor, source, workers, RunnerConfig(timeouts=timeouts or HealthTimeouts()))
    error = None
    try:
        runner.run()
    except Exception as caught:
        error = caught
    finally:
        source.close()
        for worker in workers:
            worker.close(0.5 if isinstance(worker.sink, Blocked) else LONGEST_S)
    return SimpleNamespace(stage=stage, summary=runner.summary(), error=error, said=stage.decisions, fault=fault)


def measure(done):
    """Return the time to the required state and back to OK in milliseconds; None for never."""
    stage, fault = done.stage, done.fault
    during = [(at, d) for at, d in done.said if at >= stage.began_ns]
    if fault.state is State.OK:
        other = [at for at, d in during if d.state is not State.OK]
        to_state = (max(other) - stage.began_ns) / 1e6 if other else 0.0
        return to_state, 0.0
    hit = next((at for at, d in during if d.state is fault.state), None)
    back = next((at for at, d in during if d.state is State.OK and at >= stage.ended_ns), None)
    to_state = None if hit is None else (hit - stage.began_ns) / 1e6
    return to_state, None if back is None else (back - stage.ended_ns) / 1e6
