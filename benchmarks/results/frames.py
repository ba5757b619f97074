"""The results on labeled frames: the outcome of every object, and the false alarms in empty regions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from core.clusters import clustered_wilson
from core.geometry.frame import Rect
from core.stats import Interval, Ints
from inference.frame.states import State
from inference.proof.frame_score import Outcome, ScoredObject, mark_answers

FALSE_ALARM = "false_alarm"
"""The outcome of a mark without an object."""
WORST = 6
MISSED = {
    Outcome.SILENT.value: "no class said",
    Outcome.NO_REGION.value: "no region",
    Outcome.BACKGROUND.value: "said empty",
}
"""{outcome of a missed object: its description}."""


@dataclass(frozen=True)
class Counts:
    """The outcomes of some objects."""

    n: int
    outcomes: dict[str, int]
    interval: Interval
    """The 95% interval of the recall; objects of one frame count as alike, here and in RiskPoint."""
    silences: dict[str, int] = field(default_factory=dict)
    """{what keeps the region silent: the silent objects}; UNKNOWN: the probability was under the abstain threshold."""

    @classmethod
    def of(cls, objects: Iterable[ScoredObject]) -> Counts:
        """Count the outcomes of some objects."""
        objects = list(objects)
        found = Counter(scored.outcome for scored in objects)
        outcomes = {outcome.value: found[outcome] for outcome in Outcome}  # zeros too: every table has every column
        silences = Counter(scored.silence for scored in objects if scored.silence)
        right_n = np.array([scored.outcome == Outcome.RIGHT for scored in objects], bool)
        right = clustered_wilson(right_n, [scored.frame for scored in objects])
        return cls(len(objects), outcomes, right, dict(silences))

    @property
    def not_seen(self) -> int:
        """The number of silent objects that no threshold would answer: blind, too small, or in an unproved zone."""
        return sum(n for why, n in self.silences.items() if why != State.UNKNOWN.value)

    @property
    def recall(self) -> float:
        """The part of the objects that was named rightly; 0 where there is none."""
        return self.outcomes[Outcome.RIGHT.value] / self.n if self.n else 0.0


@dataclass(frozen=True)
class RiskPoint:
    """Coverage and risk at an abstain threshold, over the objects that a region shows."""

    threshold: float
    shipped: bool
    """Whether it is the bundle's own threshold."""
    coverage: float
    """The part of the objects that is answered; to say that a region is empty is an answer."""
    coverage_interval: Interval
    risk: float
    """The part of the answered that is wrong."""
    risk_interval: Interval

    @classmethod
    def of(cls, threshold: float, objects: Sequence[ScoredObject], *, shipped: bool) -> RiskPoint:
        """Return the point of these objects; both parts are 0 where there is nothing to count."""
        answered_n, wrong_n = mark_answers(objects, threshold)
        frame_n = np.array([scored.frame for scored in objects if scored.has_region])
        # a threshold that answers nothing is wrong about nothing
        coverage = answered_n.sum() / max(len(answered_n), 1)
        risk = wrong_n.sum() / max(answered_n.sum(), 1)
        coverage_interval = clustered_wilson(answered_n, frame_n)
        risk_interval = clustered_wilson(wrong_n[answered_n], frame_n[answered_n])
        return cls(threshold, shipped, float(coverage), coverage_interval, float(risk), risk_interval)


@dataclass(frozen=True)
class Mark:
    """A rectangle of a frame: an object and what was said of it, or a false alarm."""

    box: Rect
    outcome: str
    """A value of Outcome, or FALSE_ALARM."""
    label: str | None
    """The true class; None where there is no object."""
    said: str | None
    """The class that was said; None for none, or the background."""

    def describe(self) -> str:
        """Return what is there and what was said, in a few words."""
        if self.label is None:
            return f"said {self.said}, nothing there"
        if self.outcome == Outcome.RIGHT.value:
            return self.label
        return f"{self.label}, {MISSED.get(self.outcome) or f'said {self.said}'}"


@dataclass(frozen=True)
class FrameErrors:
    """A labeled frame in which something went wrong."""

    source: str
    """The picture's name in the data set."""
    size_px: tuple[int, int]
    """Width and height."""
    marks: tuple[Mark, ...]
    """Every object that counts, right ones too, and every false alarm."""

    @property
    def count(self) -> int:
        """Objects that were not named rightly, and false alarms."""
        return sum(mark.outcome != Outcome.RIGHT.value for mark in self.marks)

    def describe(self) -> str:
        """Return the number of objects of each outcome, and of false alarms."""
        found = Counter(mark.outcome for mark in self.marks)
        alarms = found.pop(FALSE_ALARM, 0)  # popped: they are no objects, and `total` counts objects
        wrong = found[Outcome.WRONG.value]
        missed = sum(found[outcome] for outcome in MISSED)
        return f"objects: {found.total()}, wrong: {wrong}, missed: {missed}, false alarms: {alarms}"


def _unknown() -> Ints:
    return np.zeros(0, np.int64)


@dataclass(frozen=True, eq=False)
class FramesAccuracy:
    """The accuracy of one file on the labeled frames of a pack, through the car's own FrameProcessor."""

    measured_on: str
    """The backend; each network and precision is measured once, on its fastest."""
    split: str
    regions: str
    """The origin of the regions, in words."""
    frames: int
    unreadable: int
    """Further frames that cannot be read."""
    objects: Counts
    by_class: dict[str, Counts]
    by_size: dict[str, Counts]
    by_place: dict[str, Counts]
    empty_regions: int
    """Regions without an object."""
    false_alarms: int
    """Empty regions that were given a class."""
    false_alarms_per_100: float
    """False alarms in 100 frames."""
    false_alarms_interval: Interval
    """The 95% interval of false_alarms_per_100."""
    p50_ms: float
    """Milliseconds of the whole frame step."""
    p99_ms: float
    right_n: Ints = field(default_factory=_unknown)
    """1 for each object that was named rightly, else 0, in one order for all candidates; empty in older results."""
    frame_of_n: Ints = field(default_factory=_unknown)
    """The number of the frame of each of these objects; empty in older results."""
    quiet_n: Ints = field(default_factory=_unknown)
    """1 for each frame without a false alarm, else 0; empty in older results."""
    risk_curve: tuple[RiskPoint, ...] = ()
    """From the highest threshold to the lowest; empty where an older version measured."""
    worst: tuple[FrameErrors, ...] = ()
    """The WORST frames with the most errors, the most first."""
