"""Makes verdicts from probabilities, and the state of a frame from its verdicts.

Every state of a frame is decided here. Without a frame, inference/runner/camera_health.py decides on STARTING, STALE
and LOST, and inference/runner/runner.py on FAILED. For a process that died, inference/runner/supervisor.py writes
STARTING or FAILED.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from core.bundle.abstain import AbstainRule, Estimate
from core.bundle.contract import Probs
from inference.frame.decision import Verdict
from inference.frame.quality import QualityReport
from inference.frame.regions import Regions
from inference.frame.smoothing import TemporalSmoother
from inference.frame.states import State, worst

UNPROVED = (
    "the model has no background class, so in a fixed zone it would name a class of an empty road too: "
    "train with a background class, or give boxes from a detector (--detector)"
)
"""The reason of the state UNPROVED, and the two ways out."""
FROZEN = "the picture is frozen"
TOO_SMALL = "too small"


class Decider:
    """Makes one verdict for each region, and the state of the frame."""

    def __init__(
        self, classes: Sequence[str], rule: AbstainRule, smoother: TemporalSmoother | None, *, unproved: bool = False
    ) -> None:
        """unproved: no class may be reported for these regions."""
        self._classes = tuple(classes)
        self._rule = rule
        self._unproved = unproved
        # no class is reported, so there is nothing that could flicker
        self._smoother = None if unproved else smoother

    def decide(
        self, regions: Regions, probs_nc: Probs, quality: QualityReport, now_ms: float
    ) -> tuple[tuple[Verdict, ...], State, str]:
        """Return the verdicts, the state of the frame and its reason. probs_nc: float32 (regions, classes)."""
        # a picture that is black and frozen is BLIND: that reason is the more specific one
        frozen = quality.frozen and not any(quality.blind_n)
        verdicts = []
        rows = probs_nc.tolist()  # a handful of classes: plain floats are faster than arrays, and allocate none
        for name, rect, row_c, blind in zip(regions.names, regions.rects, rows, quality.blind_n, strict=True):
            unsmoothed = row_c.index(max(row_c))  # of equal probabilities the first class, as numpy's argmax
            large_enough = name not in regions.too_small
            leader, prob, accepted = self._estimate(name, row_c, unsmoothed, large_enough and blind is None, now_ms)
            state = self._state(accepted and large_enough, blind, frozen)
            reason = TOO_SMALL if state is State.UNKNOWN and not large_enough else blind
            top = self._classes[leader]
            label = top if state is State.OK else None
            truth = regions.truth.get(name)
            verdicts.append(Verdict(name, rect, state, label, top, prob, self._classes[unsmoothed], truth, reason))
        # set only for a frame without regions, which has no verdict that could say it
        if quality.blind is not None:
            return (), State.BLIND, f"the picture is {quality.blind}"
        if frozen:
            self.reset()
            return tuple(verdicts), State.STALE, FROZEN
        if regions.failure:
            return (), State.BLIND, regions.failure
        state = worst([v.state for v in verdicts]) if verdicts else State.OK
        return tuple(verdicts), state, UNPROVED if state is State.UNPROVED else ""

    def reset(self) -> None:
        """Forget what was smoothed so far: the frames before a gap say nothing about those after it."""
        if self._smoother is not None:
            self._smoother.reset()

    def _state(self, accepted: bool, blind: str | None, frozen: bool) -> State:
        """Return the state of one region: the first reason against its class decides."""
        if blind is not None:
            return State.BLIND
        if frozen:
            return State.STALE
        if self._unproved:
            return State.UNPROVED
        return State.OK if accepted else State.UNKNOWN

    def _estimate(self, name: str, row_c: list[float], unsmoothed: int, usable: bool, now_ms: float) -> Estimate:
        """Return the leading class of a region, smoothed over time where that is on. usable: it can be smoothed."""
        finite = math.isfinite(sum(row_c))
        if self._smoother is not None:
            if usable and finite:
                return self._smoother.update(name, row_c, now_ms)
            self._smoother.forget(name)
        # NaN or infinity from the network: nothing is accepted
        return self._rule.estimate(row_c, unsmoothed) if finite else Estimate(unsmoothed, 0.0, False)
