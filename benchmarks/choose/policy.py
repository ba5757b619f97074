"""policy.json: the limits of a candidate, and the preferences between candidates within them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from core.codec import from_json
from core.errors import InputError
from core.files import read_json

BUDGETS = {
    "p99_ms": ("the p99 of a frame", "ms"),
    "age_ms": ("the p99 age of a frame in the paced run", "ms"),
    "size_mb": ("the size of its file", "MB"),
    "energy_mj": ("the energy of a frame", "mJ"),
    "cold_start_ms": ("the time to its first decision", "ms"),
    "ece": ("its calibration error", ""),
    "false_alarms_per_100": ("its false alarms in 100 frames", "alarms"),
}
"""{metric with an upper limit: its description and its unit}."""
FLOORS = {
    "accuracy": "its test accuracy",
    "worst_recall": "the recall of its worst class",
    "corruption_accuracy": "its accuracy under corruption",
    "frame_recall": "the part of the objects of frames that it names rightly",
}
"""{metric with a lower limit, a fraction from 0 to 1: its description}."""
OBJECTIVES = {"p50_ms": "fastest", "p99_ms": "fastest at p99", "age_ms": "lowest in frame age", "size_mb": "smallest"}
"""{metric that the choice minimizes: the adjective of the candidate that is best in it}."""
TIE_BREAKERS = {
    "accuracy": "accuracy",
    "size_mb": "file size",
    "p50_ms": "median frame time",
    "cold_start_ms": "cold start time",
}
"""{metric that may break a tie: its description}."""

MOST_COST = 1e6
"""The highest cost of a miss: the sum over all rows has to stay a number."""


@dataclass(frozen=True)
class Policy:
    """Limits and preferences; the default is for a 30 Hz camera: an answer before the next frame.

    None is no limit. A candidate is infeasible where a limited metric was not measured. By default every miss costs the
    same, so that the reference is the most accurate candidate.
    """

    p99_ms: float | None = 33.0
    age_ms: float | None = None
    size_mb: float | None = None
    energy_mj: float | None = None
    cold_start_ms: float | None = None
    ece: float | None = None
    accuracy: float | None = None
    worst_recall: float | None = None
    corruption_accuracy: float | None = None
    false_alarms_per_100: float | None = None
    frame_recall: float | None = None
    frame_recalls: dict[str, float] = field(default_factory=dict)
    """Least part of a class's objects in labeled frames that is named rightly, for the classes named here."""
    frame_loss: float | None = 0.0
    """Part of the objects, or of the frames without a false alarm, that a candidate may lose against the best one.

    Beyond this it is infeasible; a loss counts where its whole 95% interval lies beyond. None: no comparison.
    """
    miss_costs: dict[str, float] = field(default_factory=dict)
    """{class: the cost of missing one of its rows}; 1 for a class without an entry."""
    objective: str = "p50_ms"
    margin: float = 0.01
    """A candidate better by the objective may replace the reference if the upper bound of its loss is below this."""
    tie_breakers: tuple[str, ...] = ("accuracy", "size_mb")
    """Metrics that decide, in this order, between candidates within the noise of the best by the objective."""

    def __post_init__(self) -> None:
        # a part of 1 cannot be over 1: such a floor would reject every candidate
        for name, value in self.limits((*BUDGETS, *FLOORS)):
            most = 1.0 if name in FLOORS or name == "ece" else None
            _check_limit(name, value, most=most, zero=name == "false_alarms_per_100")
        for name, limit in self.frame_recalls.items():
            _check_limit(f"frame_recalls.{name}", limit, most=1.0)
        if self.frame_loss is not None and not 0 <= self.frame_loss < 1:
            raise InputError(
                f"policy.frame_loss is {self.frame_loss!r:.40}: give a fraction from 0 to 1, such as 0.01, or null"
            )
        for name, cost in self.miss_costs.items():
            _check_limit(f"miss_costs.{name}", cost, most=MOST_COST)
        if self.objective not in OBJECTIVES:
            raise InputError(f"policy.objective is {self.objective!r:.40}: give one of {', '.join(OBJECTIVES)}")
        if not 0 < self.margin < 1:
            raise InputError(f"policy.margin is {self.margin!r:.40}: give a fraction from 0 to 1, such as 0.01")
        if unknown := [name for name in self.tie_breakers if name not in TIE_BREAKERS]:
            raise InputError(f"policy.tie_breakers has {unknown[0]!r}: choose from {', '.join(TIE_BREAKERS)}")

    @property
    def needs_ages(self) -> bool:
        """Whether the choice depends on frame ages, which are then measured for every candidate."""
        return self.age_ms is not None or self.objective == "age_ms"

    def check_classes(self, classes: Iterable[str]) -> None:
        """Raise InputError for a cost of missing a class that is not among these: it would weigh nothing, unsaid."""
        if unknown := sorted(set(self.miss_costs) - set(classes)):
            raise InputError(f"policy.miss_costs names {unknown[0]!a}: choose from {', '.join(classes)}")

    def limits(self, names: Iterable[str]) -> list[tuple[str, float]]:
        """Return (name, limit) of each of these metrics that has a limit."""
        found = [(name, getattr(self, name)) for name in names]
        return [(name, limit) for name, limit in found if limit is not None]

    def cost(self, label: str) -> float:
        """Return the cost of missing a row of a class."""
        return self.miss_costs.get(label, 1.0)


def read_policy(path: Path) -> Policy:
    """Read policy.json; a missing field has its default. Raises InputError naming the file and the field."""
    return from_json(Policy, read_json(path, "write one, or leave --policy out"), str(path))


def _check_limit(name: str, value: float, most: float | None = None, *, zero: bool = False) -> None:
    """Raise InputError for a limit that no candidate can keep, or that is none. zero: a candidate can keep 0."""
    # JSON has no infinity and no NaN, but Python reads and writes both
    above = value >= 0 if zero else value > 0
    if not above or value >= math.inf or (most is not None and value > most):
        limit = "" if most is None else f" and at most {most:g}"
        raise InputError(f"policy.{name} is {value!r:.40}: give a number {'from' if zero else 'above'} 0{limit}")
