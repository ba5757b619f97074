"""The abstain rule: whether a class is probable enough to be reported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Estimate(NamedTuple):
    """The class that leads in a region."""

    top: int
    """Its index among the classes."""
    prob: float
    accepted: bool
    """Whether the abstain rule lets it be reported; if not, the region is UNKNOWN."""


@dataclass(frozen=True)
class AbstainRule:
    """Accepts a class whose probability reaches the bundle's threshold. The only place where this is decided."""

    threshold: float

    def estimate(self, probs_c: Sequence[float], top: int) -> Estimate:
        """Return the class `top` with its probability and whether it may be reported."""
        prob = probs_c[top]
        return Estimate(top, prob, 0.0 < prob >= self.threshold)
