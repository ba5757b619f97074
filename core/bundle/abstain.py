"""The abstain rule: whether a class is probable enough to be reported, and the choice of its threshold.

Every stage asks it here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from core.bundle.contract import Probs
from core.stats import Bools, Floats, TopProbs

LEAST_COVERAGE = 0.5
"""The chosen threshold answers at least about this part, whatever the risk: a network that is silent helps nobody."""


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


def choose_abstention(
    confidence_n: TopProbs, coverage_n: Floats, risk_n: Floats, risk_wanted: float
) -> dict[str, float]:
    """Return the lowest threshold at which at most `risk_wanted` of the answers are wrong, with what it reaches.

    confidence_n: thresholds that fall; coverage_n, risk_n: what is answered at each, and what of the answered is wrong.
    """
    fine = np.flatnonzero((risk_n <= risk_wanted) | (coverage_n <= LEAST_COVERAGE))
    last = int(fine[-1]) if fine.size else 0
    # where even the least sure answer may be given, nothing needs a threshold
    threshold = 0.0 if last == len(risk_n) - 1 else float(confidence_n[last])
    reached = {"risk": float(risk_n[last]), "coverage": float(coverage_n[last])}
    return {"risk_wanted": risk_wanted, "threshold": threshold, **reached}
