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
    """The result for one region. `top` is the leading class; `label` is the same where the state is OK, else None."""

    name: str
    rect: Rect
    state: State
    label: str | None
    top: str
    prob: float
    """The probability of `top`: of this frame alone where nothing is smoothed."""
    top_unsmoothed: str
    """The class with the highest probability in this frame alone."""
    truth: str | None = None
    reason: str | None = None
    """Why nothing can be seen, where the state is BLIND; `too small` where the box's size makes it UNKNOWN."""

    @property
    def said(self) -> str:
        """The text of the region on the overlay and the page: the class, else the reason, else the state."""
        return self.label or self.reason or self.state.value.lower()


@dataclass(frozen=True, slots=True)
class SinkStatus:
    """The counts of one sink."""

    name: str
    written: int
    dropped: int
    error: str | None
    """The reason that the sink is off; None while it works."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The result for one frame, or the statement that there is none."""

    frame_id: int
    captured_ns: int
    age_ms: float
    """Time from capture or arrival, as age_basis says, to the decision."""
    drops: int
    """Frames that the camera made since the last decision and that were not processed."""
    state: State
    """The worst state among the regions, or the state of the camera."""
    verdicts: tuple[Verdict, ...]
    media_ms: float = 0.0
    name: str = ""
    stamps: tuple[str, ...] = ()
    """Marks of the whole run: synthetic, unproved_regions, unproved_detector."""
    stages_ms: Mapping[str, float] = field(default_factory=dict)
    """Durations: read, detect where there is a detector, pre (crops), infer, rest."""
    reason: str = ""
    """The reason of the state, where it lies in the camera or in this program."""
    age_basis: AgeBasis = AgeBasis.ARRIVAL
    fresh: bool = True
    """A new frame was processed; if not, the decision says only that there is none, and repeats the last frame's id."""
    sinks: tuple[SinkStatus, ...] = ()
    """All sinks as they were when the decision was posted; not part of its JSON."""

    @property
    def full_reason(self) -> str:
        """The reason of the state in a few words, for the log: the camera's, else that of the blind regions."""
        blind = sorted({f"{v.name} is {v.reason}" for v in self.verdicts if v.state is State.BLIND})
        return self.reason or ", ".join(blind) or "frames arrive and can be seen"

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
        # keys that would say nothing are left out: the file has a line for every frame
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
        "raw": verdict.top_unsmoothed,
        "rect": list(verdict.rect),
    }
    if verdict.truth is not None:
        found["truth"] = verdict.truth
    if verdict.reason is not None:
        found["why"] = verdict.reason
    return found
