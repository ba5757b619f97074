"""What the runner says of one frame, and how it gets there from probabilities."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from core.bundle.contract import Probs
from core.geometry.frame import AgeBasis, Rect
from inference.frame.states import State, worst

SCHEMA = 1
UNPROVED = (
    "the model has no background class, so in a fixed zone it would name a class of an empty road too: "
    "train with a background class, or give boxes from a detector (--boxes)"
)
"""The reason of the state UNPROVED, and the two ways out."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is said of one region. `label` is None unless the state is OK; `top` is the class that leads regardless."""

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
class Decision:
    """What is said of one frame."""

    frame_id: int
    captured_ns: int
    age_ms: float
    """From capture or arrival, as age_basis says, to the decision."""
    drops: int
    """Frames the camera made since the last decision that nobody looked at."""
    state: State
    """Of the worst region."""
    verdicts: tuple[Verdict, ...]
    media_ms: float = 0.0
    name: str = ""
    stamps: tuple[str, ...] = ()
    """What a reader must know of every line: synthetic, unproved_regions."""
    stages_ms: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""
    """Why the state is what it is, where that is the camera's or this program's doing."""
    age_basis: AgeBasis = AgeBasis.ARRIVAL
    fresh: bool = True
    """A new frame was looked at; else the line says only that there is none, and repeats the last frame's id."""

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


class Decider:
    """Turns the probabilities of a frame's regions into verdicts. unproved: no class may be said of these regions."""

    def __init__(self, classes: Sequence[str], abstain_threshold: float, *, unproved: bool = False) -> None:
        self._classes = tuple(classes)
        self._threshold = abstain_threshold
        self._unproved = unproved

    def decide(
        self,
        names: Sequence[str],
        rects: Sequence[Rect],
        probs_nc: Probs,
        truth: Mapping[str, str | None],
        blind: Sequence[str | None] | None = None,
    ) -> tuple[Verdict, ...]:
        """Return one verdict a region. probs_nc: float32 (regions, classes); blind: why a region cannot be seen."""
        verdicts = []
        rows = probs_nc.tolist()  # plain floats: no array is allocated
        for i, (name, rect, row) in enumerate(zip(names, rects, rows, strict=True)):
            prob = max(row)
            label = self._classes[row.index(prob)]
            if not math.isfinite(sum(row)):
                prob = 0.0  # a network that answers NaN is sure of nothing
            sure = 0.0 < prob >= self._threshold
            state, why = State.OK if sure else State.UNKNOWN, blind[i] if blind else None
            if self._unproved:
                state, sure = State.UNPROVED, False
            if why is not None:
                state, sure = State.BLIND, False
            said = label if sure else None
            verdicts.append(Verdict(name, rect, state, said, label, prob, label, truth.get(name), why))
        return tuple(verdicts)


def state_of(verdicts: Sequence[Verdict]) -> State:
    """Return the state of a frame: that of its worst region; OK where a frame has none."""
    return worst([v.state for v in verdicts]) if verdicts else State.OK
