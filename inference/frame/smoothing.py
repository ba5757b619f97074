"""Smoothing over time, smoothing.json: an exponential mean of probabilities, a margin to switch, a minimum hold."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from pathlib import Path

from core.bundle.abstain import AbstainRule, Estimate
from core.errors import InputError
from core.files import read_object

HINT = 'write {"smooth_ms": 150, "margin": 0.3, "hold_ms": 0, "forget_ms": 1000}, any of them'
NAMES_KEPT = 64
"""With more names than this, those that were not seen for `forget_ms` are dropped: tracks come and go."""


@dataclass(frozen=True)
class SmoothingConfig:
    """The keys of smoothing.json; times are in milliseconds of the source's own clock, not in frames.

    The defaults come from the curve that tests/inference/frame/smoothing_study.py measures. Smoothing halves the false
    switches of a model that abstains, and the margin leaves a quarter of those of a model that never does. A hold costs
    more than either, so it is off.
    """

    smooth_ms: float = 150.0
    """Time constant of the exponential mean of a region's probabilities; 0 takes each frame by itself."""
    margin: float = 0.3
    """Minimum probability lead that another class needs to replace the current one."""
    hold_ms: float = 0.0
    """Minimum time a class is held before it may change; below the abstain threshold it shows as UNKNOWN."""
    forget_ms: float = 1000.0
    """After a gap longer than this, or a time that jumps backwards, a region begins anew."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number or not 0 <= value <= 60_000:
                raise InputError(f"{name} is {value!r}: give a number from 0 to 60000")
        if self.margin > 1:
            raise InputError(f"margin is {self.margin!r}: give a number from 0 to 1")


def read_smoothing(path: Path) -> SmoothingConfig:
    """Read smoothing.json. Raises InputError naming the file and the field."""
    body = read_object(path, HINT)
    names = [f.name for f in fields(SmoothingConfig)]
    if unknown := sorted(set(body) - set(names)):
        raise InputError(f"{path} has the unknown key {unknown[0]!r}: choose from {', '.join(names)}")
    try:
        return SmoothingConfig(**body)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


@dataclass(slots=True)
class _Region:
    probs_c: list[float]
    at_ms: float
    leader: int
    accepted_ms: float | None = None
    """The time at which the leader was first accepted; None until then, while another class replaces it at once."""


class TemporalSmoother:
    """Smooths the probabilities of each region by name, a zone or a tracked object.

    The leader is the class that is reported if the abstain rule accepts it. It need not have the highest probability:
    another class replaces it only after the minimum hold and with the margin. A leader that was not accepted yet is
    replaced at once; one that no longer is stays the leader and shows as UNKNOWN.
    """

    def __init__(self, config: SmoothingConfig, rule: AbstainRule) -> None:
        self._config, self._rule = config, rule
        self._regions: dict[str, _Region] = {}

    def update(self, name: str, probs_c: list[float], now_ms: float) -> Estimate:
        """Take the probabilities of one region in one frame, all finite; return its leader."""
        region = self._mix(name, probs_c, now_ms)
        top = region.probs_c.index(max(region.probs_c))
        if top != region.leader and self._is_replaced(region, top, now_ms):
            region.leader, region.accepted_ms = top, None
        estimate = self._rule.estimate(region.probs_c, region.leader)
        if estimate.accepted and region.accepted_ms is None:
            region.accepted_ms = now_ms
        return estimate

    def forget(self, name: str) -> None:
        """Begin anew with one region."""
        self._regions.pop(name, None)

    def reset(self) -> None:
        """Begin anew with all regions: the frames before a gap say nothing about those after it."""
        self._regions.clear()

    def _is_replaced(self, region: _Region, top: int, now_ms: float) -> bool:
        if region.accepted_ms is None:
            return True
        held = now_ms - region.accepted_ms < self._config.hold_ms
        return not held and region.probs_c[top] - region.probs_c[region.leader] >= self._config.margin

    def _mix(self, name: str, probs_c: list[float], now_ms: float) -> _Region:
        region = self._regions.get(name)
        if region is None or not self._is_recent(region, now_ms):
            if len(self._regions) >= NAMES_KEPT:  # else a day of tracks would fill the memory
                self._regions = {n: r for n, r in self._regions.items() if self._is_recent(r, now_ms)}
            self._regions[name] = region = _Region(probs_c, now_ms, probs_c.index(max(probs_c)))
            return region
        smooth_ms = self._config.smooth_ms
        # 1 - exp(-elapsed / smooth_ms): the same smoothing at any frame rate
        weight = 1.0 if smooth_ms == 0 else -math.expm1(-(now_ms - region.at_ms) / smooth_ms)
        # plain floats: for a handful of classes numpy's calls cost more than the sums
        region.probs_c = [old + weight * (new - old) for old, new in zip(region.probs_c, probs_c, strict=True)]
        region.at_ms = now_ms
        return region

    def _is_recent(self, region: _Region, now_ms: float) -> bool:
        # 0 too: two pictures with one time are no gap
        return 0 <= now_ms - region.at_ms <= self._config.forget_ms
