"""The records of one frame: a verdict for each region, and the decision that is posted to the sinks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from core.geometry.frame import AgeBasis, Rect
from inference.frame.states import State

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result for one region. `label` is None unless the state is OK; `top` is the class that leads regardless."""

    name: str
    rect: Rect
    state: State
    label: str | None
    top: str
    prob: float
    """The probability of `top`: of this frame alone where nothing is smoothed."""
    raw: str
    """The class that leads in this frame alone."""
    truth: str | None = None
    why: str | None = None
    """Why nothing can be seen, where the state is BLIND."""


@dataclass(frozen=True, slots=True)
class SinkStatus:
    """The counts of one sink."""

    name: str
    written: int
    dropped: int
    error: str | None
    """Why the sink is off; None while it works."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The result for one frame, or the statement that there is none."""

    frame_id: int
    captured_ns: int
    age_ms: float
    """From capture or arrival, as age_basis says, to the decision."""
    drops: int
    """Frames that the camera made since the last decision and that were not processed."""
    state: State
    """Of the worst region."""
    verdicts: tuple[Verdict, ...]
    media_ms: float = 0.0
    name: str = ""
    stamps: tuple[str, ...] = ()
    """What a reader must know of every line: synthetic, unproved_regions, unproved_detector."""
    stages_ms: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""
    """Why the state is what it is, where that is the camera's or this program's doing."""
    age_basis: AgeBasis = AgeBasis.ARRIVAL
    fresh: bool = True
    """A new frame was processed; else the line says only that there is none, and repeats the last frame's id."""
    sinks: tuple[SinkStatus, ...] = ()
    """All sinks as they were when the decision was posted; not part of its JSON."""

    @property
    def cause(self) -> str:
        """Why the state is what it is, in a few words for the log."""
        blind = sorted({f"{v.name} is {v.why}" for v in self.verdicts if v.why})
        return self.reason or ", ".join(blind) or "frames come and can be looked at"

    def as_json(self) -> dict[str, Any]:
        """Return the object that is one line of decisions.jsonl."""
        line: dict[str, Any] = {
            "schema": SCHEMA,
            "frame": self.frame_id,
            "captured_ns": self.captured_ns,
            "media_ms": round(self.media_ms, 3),
            "age_ms": round(self.age_ms, 3),
            "age_basis": self.age_basis.value,
            "drops": self.drops,
            "state": self.state.value,
            "zones": {v.name: _verdict_json(v) for v in self.verdicts},
            "stages_ms": {name: round(value, 3) for name, value in self.stages_ms.items()},
        }
        if self.reason:
            line["reason"] = self.reason
        if not self.fresh:
            line["fresh"] = False
        if self.name:
            line["file"] = self.name
        if self.stamps:
            line["stamps"] = list(self.stamps)
        return line


def _verdict_json(verdict: Verdict) -> dict[str, Any]:
    found: dict[str, Any] = {
        "state": verdict.state.value,
        "label": verdict.label,
        "top": verdict.top,
        "prob": round(verdict.prob, 4),
        "raw": verdict.raw,
        "rect": list(verdict.rect),
    }
    if verdict.truth is not None:
        found["truth"] = verdict.truth
    if verdict.why is not None:
        found["why"] = verdict.why
    return found
