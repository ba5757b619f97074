"""The camera runner: source -> regions -> pipeline -> decision -> sinks."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from threading import Event
from time import monotonic_ns, perf_counter_ns
from typing import Any, NoReturn

import numpy as np

from core.bundle.contract import PRECISIONS, Bundle
from core.errors import DeviceError, InputError, as_device_error
from core.geometry.camera_config import Camera
from core.geometry.frame import Frame
from core.machine import ms_since_start, resident_mb
from core.redact import public_text
from inference import backends
from inference.capture.base import EndOfStream, Source, SourceLost
from inference.frame.boxes import Boxes
from inference.frame.decision import UNPROVED, Decider, Decision, state_of
from inference.frame.orientation import Mounting
from inference.frame.processor import Pipeline
from inference.frame.quality import Sight
from inference.frame.regions import Zones, whole_frame
from inference.frame.run_stats import Tally
from inference.frame.smoothing import Habits, Steady
from inference.frame.states import State
from inference.runner.camera_health import SEEING, Patience, Watch
from inference.runner.sink_worker import Outlet
from inference.runner.supervisor import ALONE, Worker

log = logging.getLogger(__name__)

RECORDED_TIMEOUT_S = 2.0
NOTHING = np.zeros((0, 1), np.float32)
REPEAT_NS = 1_000_000_000
"""While there is no frame, its absence is said again so often."""
BEAT_S = 0.5
"""While the runner waits for a camera to come back, it says so often that it is alive."""


def pick_backend_and_precision(bundle: Bundle, backend: str | None, precision: str | None) -> tuple[str, str]:
    """Return what to open: what was asked for, else the production choice, else int8 if its gates hold, else fp32.

    Raises InputError for a precision that the bundle lacks or whose gates failed.
    """
    choice = bundle.choice
    backend = backend or first_here(bundle, choice.backend if choice else "ort", precision)
    able = backends.find(backend).PRECISIONS
    proved = bundle.precisions
    if precision is None and choice and choice.precision in able:
        precision = choice.precision
    if precision is None:
        precision = next((p for p in ("int8", "fp32", *PRECISIONS) if p in proved and p in able), "fp32")
    if precision not in PRECISIONS:
        raise InputError(f"there is no precision {precision!r}: choose from {', '.join(proved)}")
    if backend != "null" and precision not in proved:
        held = ", ".join(proved) or "none"
        raise InputError(f"{bundle.path} has no proved {precision} (its gates hold for: {held}): export the run again")
    return backend, precision


def first_here(bundle: Bundle, wanted: str, precision: str | None) -> str:
    """Return the backend `wanted`, or the next available one that runs something of the bundle.

    Says on stderr why one is passed over. Where none is available, `wanted` is returned, to be refused as it is opened.
    """
    for name in dict.fromkeys([wanted, "ort", *backends.names()]):
        able = set(backends.find(name).PRECISIONS) & ({precision} if precision else set(bundle.precisions))
        if name != wanted and (name == "null" or not able):
            continue
        found = backends.availability(name)
        if found.available:
            return name
        log.warning(f"the backend {name} is not available ({found.reason}): {found.hint}")
    return wanted


def pick_zones(camera: Camera, source: Source) -> Zones:
    """Return the zones of camera.json, else those the source has its own, else the whole frame."""
    if camera.zones:
        return Zones(camera.zones)
    return Zones(source.zones) if source.zones else whole_frame()


def stamps_of(bundle: Bundle, source: Source, zones: Zones | Boxes, allow_unproved: bool) -> tuple[str, ...]:
    """Return what must stand on every decision. Says on stderr why fixed zones are not proved."""
    stamps = []
    if is_unproved(bundle, zones):
        stamps.append("unproved_regions")
        told = "a class is named all the same, by --allow-unproved" if allow_unproved else "no class is named"
        log.warning(f"{told}, and every decision is stamped unproved_regions: {UNPROVED}")
    if bundle.synthetic or source.synthetic:
        stamps.append("synthetic")
    return tuple(stamps)


def is_unproved(bundle: Bundle, zones: Zones | Boxes) -> bool:
    """Say whether nothing proves that a class is there: in fixed zones, of a model that knows no background."""
    return bundle.background is None and not isinstance(zones, Boxes)


class Runner:
    """Drives an open source through an open pipeline. One thread; `stop` may be set by any."""

    def __init__(
        self,
        bundle: Bundle,
        pipeline: Pipeline,
        source: Source,
        zones: Zones | Boxes,
        mounting: Mounting,
        outlets: Sequence[Outlet],
        stamps: tuple[str, ...],
        patience: Patience | None = None,
        habits: Habits | None = None,
        worker: Worker = ALONE,
        allow_unproved: bool = False,
    ) -> None:
        self._pipeline, self._source, self._zones, self._mounting = pipeline, source, zones, mounting
        self._outlets, self._stamps, self._worker = outlets, stamps, worker
        unproved = is_unproved(bundle, zones) and not allow_unproved
        self._decider = Decider(bundle.classes, bundle.abstain_threshold, unproved=unproved)
        self._steady = Steady(habits, bundle.classes, bundle.abstain_threshold) if habits else None
        self._sight = Sight()
        self._watch = Watch(patience or Patience(), log=source.sequence)
        self._last_id = -1
        self._heard_ns: int | None = None
        self._opened_ns = self._said_ns = monotonic_ns()
        self.stop = Event()
        self.tally = Tally(bundle.classes)
        self.cold_start_ms: float | None = None

    def run(self, frames: int | None = None) -> None:
        """Decide frames until the source ends, or `frames` of them, or `stop` is set.

        Raises DeviceError for whatever goes wrong once a frame came, or when the camera stays lost: FAILED was said.
        """
        try:
            self._run(frames)
        except Exception as error:  # a runtime, a driver or a plug-in may raise anything
            if isinstance(error, InputError) and self._heard_ns is None and self._last_id < 0:
                raise  # the source itself says before its first frame that the command is wrong
            self._fail(error)

    def _run(self, frames: int | None) -> None:
        while not self.stop.is_set() and (frames is None or self.tally.frames < frames):
            self._worker.say(self._watch.state)
            started = perf_counter_ns()
            try:
                frame = self._source.read(self._timeout_s())
            except EndOfStream:
                return
            except SourceLost as error:
                self._reconnect(str(error))
                continue
            if frame is None:
                self._miss()
            else:
                self._take(frame, perf_counter_ns() - started)

    def _timeout_s(self) -> float:
        return self._watch.stale_after_s(1 / self._source.fps) if self._source.live else RECORDED_TIMEOUT_S

    def _take(self, frame: Frame, read_ns: int) -> None:
        self._heard_ns = monotonic_ns()
        self._watch.heard(self._heard_ns, 1 / self._source.fps)
        picture = self._mounting.upright(frame.image_bgr)
        decision = self.decide(frame, picture, read_ns)
        self._watch.change(decision.state, reason_of(decision), monotonic_ns())
        for outlet in self._outlets:
            outlet.post(decision, picture)
        self.tally.add(decision)

    def _miss(self) -> None:
        """Say that no frame came in time; a camera that hangs for too long is opened again."""
        if not self._source.live:
            return
        self._forget()
        now, patience = monotonic_ns(), self._watch.patience
        if self._heard_ns is None:
            if now - self._opened_ns > patience.start_s * 1e9:
                self._reconnect(f"no frame within {patience.start_s:g} s of opening")
            return
        silent_s = (now - self._heard_ns) / 1e9
        if silent_s > patience.hung_s:
            self._reconnect(f"no frame for {silent_s:.1f} s")
        else:
            self._say(State.STALE, f"no frame for {silent_s * 1000:.0f} ms")

    def _reconnect(self, why: str) -> None:
        """Say LOST, wait, open the camera again. Raises DeviceError when that was in vain for too long."""
        reopen = getattr(self._source, "reopen", None)
        if reopen is None:
            raise DeviceError(f"the source is lost ({why}): look at its cable or its file")
        self._forget()
        self._say(State.LOST, why)
        pause_s = self._watch.next_pause_s(monotonic_ns())
        if pause_s is None:
            raise DeviceError(f"the camera stays lost ({why}): look at its cable or its address")
        if not self._wait(pause_s):
            reopen()
            self._opened_ns, self._heard_ns = monotonic_ns(), None

    def _wait(self, pause_s: float) -> bool:
        """Wait, alive; return whether the end was asked for."""
        until = monotonic_ns() + round(pause_s * 1e9)
        while (left_s := (until - monotonic_ns()) / 1e9) > 0 and not self.stop.is_set():
            self._worker.say(self._watch.state)
            self.stop.wait(min(left_s, BEAT_S))
        return self.stop.is_set()

    def _forget(self) -> None:
        if self._steady is not None:
            self._steady.forget()

    def _fail(self, error: Exception) -> NoReturn:
        """Report FAILED to the sinks and to the supervisor, then raise DeviceError."""
        failure = as_device_error(error, "the runner")
        self._say(State.FAILED, str(failure))
        self._worker.say(State.FAILED)
        raise failure from error

    def _say(self, state: State, reason: str) -> None:
        """Post a decision without a frame: at each change of state, then once a second."""
        now, reason = monotonic_ns(), public_text(reason)
        if not self._watch.change(state, reason, now) and now - self._said_ns < REPEAT_NS:
            return
        self._said_ns = now
        age_ms = 0.0 if self._heard_ns is None else (now - self._heard_ns) / 1e6
        decision = Decision(
            self._last_id, now, age_ms, 0, state, (), now / 1e6, stamps=self._stamps, reason=reason, fresh=False
        )
        for outlet in self._outlets:
            outlet.post(decision, None)

    def decide(self, frame: Frame, picture: Any, read_ns: int = 0) -> Decision:
        """Return what is said of one frame. picture: the frame, upright."""
        started = perf_counter_ns()
        regions = self._zones.at(frame, picture.shape[1], picture.shape[0])
        rects = regions.rects
        self._sight.look(picture)
        blind = [
            "outside the frame" if name in regions.outside else self._sight.why_blind(rect)
            for name, rect in zip(regions.names, rects, strict=True)
        ]
        probs = self._pipeline.classify(picture, rects) if rects else NOTHING
        verdicts = self._decider.decide(regions.names, rects, probs, regions.truth, blind)
        if self._steady is not None:
            verdicts = self._steady.settle(verdicts, probs, frame.media_ns / 1e6)
        state = state_of(verdicts)
        reason = UNPROVED if state is State.UNPROVED else ""
        if self._source.sequence and self._watch.is_frozen(self._sight.same, frame.media_ns) and state in SEEING:
            # a frozen picture that is black is BLIND: of two reasons, name the one a person can act on
            state, reason = State.STALE, "the picture is frozen"
            verdicts = tuple(replace(v, state=State.STALE, label=None) for v in verdicts)
            self._forget()
        drops = frame.drops
        if drops is None:
            drops = frame.frame_id - self._last_id - 1 if self._source.live else 0
        self._last_id = frame.frame_id
        pre_ns, infer_ns = (self._pipeline.pre_ns, self._pipeline.infer_ns) if rects else (0, 0)
        total_ns = perf_counter_ns() - started
        if self.cold_start_ms is None:
            self.cold_start_ms = ms_since_start(self._worker.born_pid)
        return Decision(
            frame_id=frame.frame_id,
            captured_ns=frame.captured_ns,
            age_ms=(monotonic_ns() - frame.captured_ns) / 1e6,
            age_basis=frame.age_basis,
            drops=max(drops, 0),
            state=state,
            verdicts=verdicts,
            media_ms=frame.media_ns / 1e6,
            name=frame.name,
            stamps=self._stamps,
            stages_ms={
                "read": read_ns / 1e6,
                "pre": pre_ns / 1e6,
                "infer": infer_ns / 1e6,
                "rest": (total_ns - pre_ns - infer_ns) / 1e6,
            },
            reason=reason,
        )

    def summary(self) -> dict[str, Any]:
        """Return what the drive was, as far as the runner knows."""
        cold = None if self.cold_start_ms is None else round(self.cold_start_ms, 1)
        return {
            **self.tally.as_json(),
            "events": self._watch.events,
            "cold_start_ms": cold,
            "resident_mb": round(resident_mb(), 1),
            "sinks": {
                o.sink.name: {"written": o.written, "dropped": o.dropped, "error": o.error} for o in self._outlets
            },
        }


def reason_of(decision: Decision) -> str:
    """Return why a decision's state is what it is, in a few words for the log."""
    blind = sorted({f"{v.name} is {v.why}" for v in decision.verdicts if v.why})
    return decision.reason or ", ".join(blind) or "frames come and can be looked at"
