"""The abstain rule: whether a class is probable enough to be reported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Estimate(NamedTuple):
    """The leading class of a region."""

    leader: int
    """Its index among the classes."""
    prob: float
    accepted: bool
    """Whether the abstain rule lets it be reported; if not, the region is UNKNOWN."""


@dataclass(frozen=True)
class AbstainRule:
    """Accepts a class whose probability reaches the bundle's threshold. This comparison stands nowhere else."""

    threshold: float

    def estimate(self, probs_c: Sequence[float], leader: int) -> Estimate:
        """Return the class `leader` with its probability and whether it may be reported."""
        prob = probs_c[leader]
        # a probability of 0 is never accepted, even where the threshold is 0
        return Estimate(leader, prob, prob >= self.threshold and prob > 0.0)
