"""decision.json: how steady a zone's class is. Probabilities smoothed by time, a margin to switch, a minimum hold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from core.bundle.contract import Probs
from core.errors import InputError
from core.files import read_object
from inference.frame.decision import Verdict
from inference.frame.states import State

HINT = 'write {"smooth_ms": 150, "margin": 0.3, "hold_ms": 0, "forget_ms": 1000}, any of them'


@dataclass(frozen=True)
class Habits:
    """What decision.json holds; times are in milliseconds of the source's own clock, not in frames.

    The defaults are those of the curve that `python -m benchmarks.studies steadiness` measures: smoothing halves the
    false switches of a model that abstains; of one that never does, the margin leaves a quarter; a hold costs more than
    both.
    """

    smooth_ms: float = 150.0
    """Time constant of the exponential mean of a zone's probabilities; 0 looks at each frame alone."""
    margin: float = 0.3
    """So much more probable than the class that was said must another be."""
    hold_ms: float = 0.0
    """So long after a class began to be said no other is; under the abstain threshold it is UNKNOWN meanwhile."""
    forget_ms: float = 1000.0
    """After a gap of so long, or a time that jumps backwards, a zone begins anew."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number or not 0 <= value <= 60_000:
                raise InputError(f"{name} is {value!r}: give a number from 0 to 60000")
        if self.margin > 1:
            raise InputError(f"margin is {self.margin!r}: give a part of 1")


def read_habits(path: Path) -> Habits:
    """Read decision.json. Raises InputError naming the file and the field."""
    body = read_object(path, HINT)
    names = [f.name for f in fields(Habits)]
    if unknown := sorted(set(body) - set(names)):
        raise InputError(f"{path} has the unknown key {unknown[0]!r}: choose from {', '.join(names)}")
    try:
        return Habits(**body)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


@dataclass
class _Zone:
    probs_c: list[float]
    at_ms: float
    leader: int
    said_ms: float | None = None
    """Since when the leader is said; None where it is not, so that whoever leads next takes its place at once."""


class Steady:
    """Makes the verdicts of one frame after the other steady, zone by zone.

    The leader is the class that is said, if it is sure enough. Another takes its place when the leader was said for
    the minimum hold and falls behind by the margin; in between, a leader under the threshold is UNKNOWN.
    """

    def __init__(self, habits: Habits, classes: Sequence[str], abstain_threshold: float) -> None:
        self._habits, self._classes, self._threshold = habits, tuple(classes), abstain_threshold
        self._zones: dict[str, _Zone] = {}

    def settle(self, verdicts: Sequence[Verdict], probs_nc: Probs, now_ms: float) -> tuple[Verdict, ...]:
        """Return the verdicts with steady classes. probs_nc: float32 (regions, classes) they were made of."""
        rows = probs_nc.tolist()  # a handful of classes: plain floats are faster than arrays, and allocate none
        return tuple([self._settle(v, rows[i], now_ms) for i, v in enumerate(verdicts)])

    def forget(self) -> None:
        """Begin anew: what was seen before the camera was gone says nothing about what is there now."""
        self._zones.clear()

    def _settle(self, verdict: Verdict, row_c: list[float], now_ms: float) -> Verdict:
        if verdict.state not in (State.OK, State.UNKNOWN) or not math.isfinite(sum(row_c)):
            self._zones.pop(verdict.name, None)
            return verdict
        zone = self._mix(verdict.name, row_c, now_ms)
        top = zone.probs_c.index(max(zone.probs_c))
        if top != zone.leader and self._gives_way(zone, top, now_ms):
            zone.leader, zone.said_ms = top, None
        prob, label = zone.probs_c[zone.leader], self._classes[zone.leader]
        sure = prob >= self._threshold
        if sure and zone.said_ms is None:
            zone.said_ms = now_ms
        state = State.OK if sure else State.UNKNOWN
        said = label if sure else None
        # not dataclasses.replace, which would add a third to this function's time
        return Verdict(verdict.name, verdict.rect, state, said, label, prob, verdict.raw, verdict.truth)

    def _gives_way(self, zone: _Zone, top: int, now_ms: float) -> bool:
        if zone.said_ms is None:
            return True
        held = now_ms - zone.said_ms < self._habits.hold_ms
        return not held and zone.probs_c[top] - zone.probs_c[zone.leader] >= self._habits.margin

    def _mix(self, name: str, row_c: list[float], now_ms: float) -> _Zone:
        zone = self._zones.get(name)
        if zone is None or not 0 <= now_ms - zone.at_ms <= self._habits.forget_ms:
            zone = _Zone(row_c, now_ms, row_c.index(max(row_c)))
            self._zones[name] = zone
            return zone
        smooth_ms = self._habits.smooth_ms
        weight = 1.0 if smooth_ms == 0 else -math.expm1(-(now_ms - zone.at_ms) / smooth_ms)
        zone.probs_c = [old + weight * (new - old) for old, new in zip(zone.probs_c, row_c, strict=True)]
        zone.at_ms = now_ms
        return zone
