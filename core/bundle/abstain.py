"""The abstain rule: whether a class is probable enough to be reported, and the choice of its threshold.

Training, export, benchmark and runner all use it from here; inference/proof/frame_score.py applies it to the objects of
labeled frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from core.stats import Bools, Floats, TopProbs

LEAST_COVERAGE = 0.5
"""The least part that the chosen threshold answers, whatever the risk: a network that is always silent is no use.

Rows of equal probability are answered together, so the part can be smaller where many are equal.
"""


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

    def accepts_each(self, tops_n: TopProbs) -> Bools:
        """Return, for each of n top probabilities, whether its class may be reported."""
        return (tops_n >= self.threshold) & (tops_n > 0.0)

    def estimate(self, probs_c: Sequence[float], leader: int) -> Estimate:
        """Return the class `leader` with its probability and whether it may be reported."""
        prob = probs_c[leader]
        return Estimate(leader, prob, self.accepts(prob))


def choose_threshold(
    confidence_n: TopProbs, coverage_n: Floats, risk_n: Floats, risk_wanted: float
) -> dict[str, float]:
    """Return the lowest threshold at which at most `risk_wanted` of the answers are wrong, with what it reaches.

    Where that threshold answers less than LEAST_COVERAGE, the lowest one that answers no more than LEAST_COVERAGE is
    returned, whatever its risk.
    confidence_n: thresholds in falling order; coverage_n, risk_n: the part that is answered at each, and the part of
    the answered that is wrong. Of equal thresholds the last has the coverage and the risk of them all.
    """
    # rows of one confidence are all accepted or none: only the last point of each is reached
    reached_n = np.append(confidence_n[1:] < confidence_n[:-1], True)
    confidence_n, coverage_n, risk_n = confidence_n[reached_n], coverage_n[reached_n], risk_n[reached_n]
    acceptable = np.flatnonzero((risk_n <= risk_wanted) | (coverage_n <= LEAST_COVERAGE))
    # where none is acceptable, the highest threshold, which answers least
    last = int(acceptable[-1]) if acceptable.size else 0
    # where all rows may be answered, no threshold is needed
    threshold = 0.0 if last == len(risk_n) - 1 else float(confidence_n[last])
    reached = {"risk": float(risk_n[last]), "coverage": float(coverage_n[last])}
    return {"risk_wanted": risk_wanted, "threshold": threshold, **reached}
