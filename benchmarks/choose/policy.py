"""policy.json: what a candidate must keep to, and what decides between those that do."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from core.errors import InputError
from core.files import read_json

BUDGETS = {
    "p99_ms": ("the p99 of a frame", "ms"),
    "age_ms": ("the p99 age of a frame in the paced run", "ms"),
    "size_mb": ("the size of its file", "MB"),
    "energy_mj": ("the energy of a frame", "mJ"),
    "cold_start_ms": ("the time to its first decision", "ms"),
    "ece": ("its calibration error", ""),
}
"""Figures with an upper limit: what they are, and their unit."""
FLOORS = {
    "accuracy": "its test accuracy",
    "worst_recall": "the recall of its worst class",
    "corruption_accuracy": "its accuracy under corruption",
}
"""Figures with a lower limit, parts of 1."""
OBJECTIVES = {"p50_ms": "fastest", "p99_ms": "fastest in the tail", "age_ms": "freshest", "size_mb": "smallest"}
EQUALS = ("accuracy", "size_mb", "p50_ms", "cold_start_ms")


@dataclass(frozen=True)
class Policy:
    """The default is for a 30 Hz rear camera: a frame must be answered before the next one comes.

    A limit of None is not asked. A limit on a figure that was not measured is not met: missing evidence is not
    compliance. Every miss costs the same by default, so the reference is plainly the most accurate.
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
    miss_costs: dict[str, float] = field(default_factory=dict)
    """What missing a row of a class costs; 1 where not named."""
    objective: str = "p50_ms"
    margin: float = 0.01
    """A better candidate by the objective wins only if the upper 95% bound of its loss stays under this."""
    equals: tuple[str, ...] = ("accuracy", "size_mb")
    """What wins among candidates that are equal in the objective, in this order."""

    def __post_init__(self) -> None:
        for name in (*BUDGETS, *FLOORS):
            _check_number(name, getattr(self, name), most=None if name in BUDGETS and name != "ece" else 1.0)
        if not isinstance(self.miss_costs, dict):
            raise InputError("policy.miss_costs is not an object: give a cost a class, such as {'person': 5}")
        for name, cost in self.miss_costs.items():
            _check_number(f"miss_costs.{name}", cost)
        if self.objective not in OBJECTIVES:
            raise InputError(f"policy.objective is {self.objective!r}: give one of {', '.join(OBJECTIVES)}")
        if not _is_number(self.margin) or not 0 < self.margin < 1:
            raise InputError(f"policy.margin is {self.margin!r}: give a part of 1, such as 0.01")
        if unknown := [name for name in self.equals if name not in EQUALS]:
            raise InputError(f"policy.equals has {unknown[0]!r}: choose from {', '.join(EQUALS)}")

    def as_json(self) -> dict[str, Any]:
        """Return the object that stands in policy.json, results.json and choice.json."""
        return asdict(self) | {"equals": list(self.equals)}

    @classmethod
    def from_json(cls, body: Any, where: str = "policy") -> Policy:
        """Read `as_json`'s object; what is not named keeps its default. Raises InputError naming the field."""
        if not isinstance(body, dict):
            raise InputError(f"{where} is not a JSON object")
        known = {item.name for item in fields(cls)}
        if unknown := sorted(set(body) - known):
            raise InputError(f"{where} has the unknown field {unknown[0]!r}: choose from {', '.join(sorted(known))}")
        equals = body.get("equals", [*cls.equals])
        if not isinstance(equals, list) or not all(isinstance(name, str) for name in equals):
            raise InputError(f"{where}: policy.equals is not a list of names")
        try:
            return cls(**{**body, "equals": tuple(equals)})
        except InputError as error:
            raise InputError(f"{where}: {error}") from None

    def cost(self, label: str) -> float:
        """Return what missing a row of a class costs."""
        return self.miss_costs.get(label, 1.0)


def read_policy(path: Path) -> Policy:
    """Read policy.json. Raises InputError naming the file and the field."""
    return Policy.from_json(read_json(path, "write one, or leave --policy out"), str(path))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check_number(name: str, value: Any, most: float | None = None) -> None:
    if value is None and not name.startswith("miss_costs"):
        return
    if not _is_number(value) or value <= 0 or (most is not None and value > most):
        limit = "" if most is None else f" and at most {most:g}"
        raise InputError(f"policy.{name} is {value!r}: give a number above 0{limit}")
