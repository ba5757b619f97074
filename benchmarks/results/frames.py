"""The results on labeled frames: the outcome of every object, and the false alarms in empty regions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from core.stats import Interval, Ints, wilson
from inference.proof.frame_score import Outcome


@dataclass(frozen=True)
class Counts:
    """The outcomes of some objects."""

    n: int
    outcomes: dict[str, int]
    interval: Interval
    """The 95% interval of the recall."""

    @classmethod
    def of(cls, outcomes: Iterable[Outcome]) -> Counts:
        """Count the outcomes."""
        found = Counter(outcomes)
        return cls(found.total(), {o.value: found[o] for o in Outcome}, wilson(found[Outcome.RIGHT], found.total()))

    @property
    def recall(self) -> float:
        """The part of the objects that was named rightly; 0 where there is none."""
        return self.outcomes[Outcome.RIGHT.value] / self.n if self.n else 0.0


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
    quiet_n: Ints = field(default_factory=_unknown)
    """1 for each frame without a false alarm, else 0; empty in older results."""
