"""The camera runner: source -> regions -> pipeline -> decision -> sinks."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from time import monotonic_ns, perf_counter_ns
from typing import Any

from inference import backends
from inference.camera import Camera, Mounting
from inference.contract import PRECISIONS, Bundle
from inference.decision import Decider, Decision, state_of
from inference.errors import InputError
from inference.pipeline import Pipeline
from inference.process import ms_since_start, resident_mb
from inference.regions import Zones, whole_frame
from inference.sight import Sight
from inference.sinks import Outlet
from inference.sources import EndOfStream, Frame, Source, SourceLost
from inference.summary import Tally

READ_TIMEOUT_S = 2.0


def pick_backend_and_precision(bundle: Bundle, backend: str | None, precision: str | None) -> tuple[str, str]:
    """Return what to open: what was asked for, else the production choice, else int8 if its gates hold, else fp32.

    Raises InputError for a precision that is not here or whose gates failed.
    """
    choice = bundle.choice or {}
    backend = backend or choice.get("backend") or "ort"
    able = backends.find(backend).PRECISIONS
    proved = bundle.precisions
    if precision is None and choice.get("precision") in able:
        precision = str(choice["precision"])
    if precision is None:
        precision = next((p for p in ("int8", "fp32", *PRECISIONS) if p in proved and p in able), "fp32")
    if precision not in PRECISIONS:
        raise InputError(f"there is no precision {precision!r}: choose from {', '.join(proved)}")
    if backend != "null" and precision not in proved:
        held = ", ".join(proved) or "none"
        raise InputError(f"{bundle.path} has no proved {precision} (its gates hold for: {held}): export the run again")
    return backend, precision


def pick_zones(camera: Camera, source: Source) -> Zones:
    """Return the zones of camera.json, else those the source has its own, else the whole frame."""
    if camera.zones:
        return Zones(camera.zones)
    return Zones(source.zones) if source.zones else whole_frame()


def stamps_of(bundle: Bundle, source: Source) -> tuple[str, ...]:
    """Return what must stand on every decision. Says on stderr why fixed zones are not proved."""
    stamps = []
    if bundle.background is None:
        stamps.append("unproved_regions")
        print(
            "warning: the model has no background class, so it names a class even where a zone is empty; "
            "its decisions are stamped unproved_regions",
            file=sys.stderr,
        )
    if bundle.synthetic or source.synthetic:
        stamps.append("synthetic")
    return tuple(stamps)


class Runner:
    """Drives an open source through an open pipeline. One thread."""

    def __init__(
        self,
        bundle: Bundle,
        pipeline: Pipeline,
        source: Source,
        zones: Zones,
        mounting: Mounting,
        outlets: Sequence[Outlet],
        stamps: tuple[str, ...],
    ) -> None:
        self._pipeline, self._source, self._zones, self._mounting = pipeline, source, zones, mounting
        self._outlets, self._stamps = outlets, stamps
        self._decider = Decider(bundle.classes, bundle.abstain_threshold)
        self._sight = Sight()
        self._last_id = -1
        self.tally = Tally(bundle.classes)
        self.cold_start_ms: float | None = None

    def run(self, frames: int | None = None) -> None:
        """Decide frames until the source ends, or `frames` of them."""
        while frames is None or self.tally.frames < frames:
            started = perf_counter_ns()
            try:
                frame = self._source.read(READ_TIMEOUT_S)
            except EndOfStream:
                return
            except SourceLost as error:
                raise InputError(f"the camera is lost ({error}): look at its cable") from None
            if frame is not None:
                read_ns = perf_counter_ns() - started
                picture = self._mounting.upright(frame.image_bgr)
                decision = self.decide(frame, picture, read_ns)
                for outlet in self._outlets:
                    outlet.post(decision, picture)
                self.tally.add(decision)

    def decide(self, frame: Frame, picture: Any, read_ns: int = 0) -> Decision:
        """Return what is said of one frame. picture: the frame, upright."""
        started = perf_counter_ns()
        rects = self._zones.rects(picture.shape[1], picture.shape[0])
        self._sight.look(picture)
        blind = [self._sight.why_blind(rect) for rect in rects]
        probs = self._pipeline.classify(picture, rects)
        verdicts = self._decider.decide(self._zones.names, rects, probs, frame.truth, blind)
        drops = frame.frame_id - self._last_id - 1 if self._source.live else 0
        self._last_id = frame.frame_id
        pre_ns, infer_ns = self._pipeline.pre_ns, self._pipeline.infer_ns
        total_ns = perf_counter_ns() - started
        if self.cold_start_ms is None:
            self.cold_start_ms = ms_since_start()
        return Decision(
            frame_id=frame.frame_id,
            captured_ns=frame.captured_ns,
            age_ms=(monotonic_ns() - frame.captured_ns) / 1e6,
            drops=max(drops, 0),
            state=state_of(verdicts),
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
        )

    def summary(self) -> dict[str, Any]:
        """Return what the drive was, as far as the runner knows."""
        cold = None if self.cold_start_ms is None else round(self.cold_start_ms, 1)
        return {
            **self.tally.as_json(),
            "cold_start_ms": cold,
            "resident_mb": round(resident_mb(), 1),
            "sinks": {
                o.sink.name: {"written": o.written, "dropped": o.dropped, "error": o.error} for o in self._outlets
            },
        }
