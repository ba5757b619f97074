"""The abstain rule: whether a class is probable enough to be reported. Every stage asks it here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from core.bundle.contract import Probs
from core.stats import Bools


class Estimate(NamedTuple):
    """The leading class of a region."""

    leader: int
    """Its index among the classes."""
    prob: float
    accepted: bool
    """Whether the abstain rule lets it be reported; if not, the region is UNKNOWN."""


@dataclass(frozen=True)
class AbstainRule:
    """Accepts a class whose probability reaches the bundle's threshold."""

    threshold: float

    def accepts(self, prob: float) -> bool:
        """Return whether a class with this probability may be reported."""
        # a probability of 0 is never accepted, even where the threshold is 0
        return prob >= self.threshold and prob > 0.0

    def accepts_each(self, probs_n: Probs) -> Bools:
        """Return the same for each of n probabilities."""
        return (probs_n >= self.threshold) & (probs_n > 0.0)

    def estimate(self, probs_c: Sequence[float], leader: int) -> Estimate:
        """Return the class `leader` with its probability and whether it may be reported."""
        prob = probs_c[leader]
        return Estimate(leader, prob, self.accepts(prob))
