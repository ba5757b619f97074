"""The rule that chooses the production model, stated once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.choose.policy import BUDGETS, FLOORS, Policy
from core.stats import Bools, Floats, Interval, Pairs, combine_bounds, loss_bound, mcnemar_p, pair, paired_interval

TIMES = ("p50_ms", "p99_ms", "age_ms")
"""Objectives that the noise of the run blurs."""


@dataclass(frozen=True)
class Evidence:
    """What was measured of one candidate, as far as the choice needs it."""

    name: str
    labels_n: NDArray[np.int64]
    predicted_n: NDArray[np.int64]
    """The same rows for every candidate."""
    classes: tuple[str, ...]
    figures: Mapping[str, float | None]
    """By the names of BUDGETS, FLOORS and OBJECTIVES; None or absent where not measured."""
    why_not: str = ""
    """Why it may never be chosen, whatever the policy; empty where it may."""

    @property
    def correct_n(self) -> Bools:
        """Whether each test row was right."""
        return np.asarray(self.labels_n == self.predicted_n)

    def figure(self, name: str) -> float | None:
        """Return a measured figure, accuracy and worst recall among them."""
        if name == "accuracy":
            return float(np.mean(self.correct_n))
        if name == "worst_recall":
            return min(float(self.correct_n[self.labels_n == c].mean()) for c in np.unique(self.labels_n))
        return self.figures.get(name)

    def weights(self, policy: Policy) -> Floats:
        """Return what missing each row costs, float64 (n,)."""
        return np.array([policy.cost(name) for name in self.classes])[self.labels_n]

    def merit(self, policy: Policy) -> float:
        """Return the part of the cost of missing everything that it avoids; with equal costs its accuracy."""
        weights = self.weights(policy)
        return float(weights @ self.correct_n / weights.sum())


@dataclass(frozen=True)
class Loss:
    """What a candidate loses against the reference on the same rows."""

    pairs: Pairs
    observed: float
    """Accuracy of the reference minus its own."""
    interval: Interval
    """Two-sided 95%, of the plain accuracy."""
    bound: float
    """One-sided 95% upper bound, weighed by the policy's costs: what the margin is held against."""
    mcnemar_p: float


@dataclass(frozen=True)
class Outcome:
    """The rule's answer, before any words."""

    chosen: Evidence | None
    reference: Evidence | None
    unfit: dict[str, str]
    """{name: the one limit it breaks}."""
    better: frozenset[str]
    """Better than the reference by the objective, beyond the noise."""
    sound: frozenset[str]
    """Of those, the ones whose loss is shown to be under the margin."""
    losses: dict[str, Loss]
    """Against the reference, of every candidate but itself."""
    outdone_by: Evidence | None = None
    """The best of the unfit, where it does better on the test rows than the reference."""


def apply_rule(field: Sequence[Evidence], policy: Policy, noise_floor: float = 0.0) -> Outcome:
    """Apply the rule: see `words.explain_rule`. `noise_floor`: times closer than this, relatively, are equal."""
    unfit = {e.name: reason for e in field if (reason := reason_unfit(e, policy))}
    fit = [e for e in field if e.name not in unfit]
    if not fit:
        return Outcome(None, None, unfit, frozenset(), frozenset(), {})
    reference = min(
        fit, key=lambda e: (-round(e.merit(policy), 12), *_ranks(e, (policy.objective, *policy.equals)), e.name)
    )
    losses = {e.name: measure_loss(reference, e, policy) for e in field if e is not reference}
    better = [e for e in fit if e is not reference and is_better(e, reference, policy, noise_floor)]
    sound = [e for e in better if losses[e.name].bound < policy.margin]
    chosen = pick_best([reference, *sound], policy, noise_floor)
    names = frozenset(e.name for e in better), frozenset(e.name for e in sound)
    above = [e for e in field if e.name in unfit and e.merit(policy) > reference.merit(policy) + 1e-12]
    outdone_by = max(above, key=lambda e: (e.merit(policy), e.name), default=None)
    return Outcome(chosen, reference, unfit, *names, losses, outdone_by)


def reason_unfit(evidence: Evidence, policy: Policy) -> str | None:
    """Return the first limit that a candidate breaks whatever its rivals are, or None."""
    if evidence.why_not:
        return evidence.why_not
    for name, (what, unit) in BUDGETS.items():
        limit, value = getattr(policy, name), evidence.figure(name)
        if limit is not None and value is None:
            return f"{what} was not measured, and the policy limits it to {limit:g} {unit}".rstrip()
        if limit is not None and value is not None and value > limit:
            return f"{what}, {value:.3g} {unit}, is over the budget of {limit:g} {unit}".replace(" , ", ", ").rstrip()
    for name, what in FLOORS.items():
        limit, value = getattr(policy, name), evidence.figure(name)
        if limit is not None and value is None:
            return f"{what} was not measured, and the policy asks for {100 * limit:g}%"
        if limit is not None and value is not None and value < limit:
            return f"{what}, {100 * value:.1f}%, is under the floor of {100 * limit:g}%"
    return None if evidence.figure(policy.objective) is not None else f"its {policy.objective} was not measured"


def measure_loss(reference: Evidence, rival: Evidence, policy: Policy) -> Loss:
    """Return the paired loss of `rival`; the bound is Tango's, combined over classes where their costs differ."""
    pairs = pair(reference.correct_n, rival.correct_n)
    return Loss(pairs, pairs.loss, paired_interval(pairs), weighted_bound(reference, rival, policy), mcnemar_p(pairs))


def weighted_bound(reference: Evidence, rival: Evidence, policy: Policy) -> float:
    """Return the one-sided 95% upper bound of the loss of merit."""
    weights = reference.weights(policy)
    strata = [weights == cost for cost in np.unique(weights)]
    counts = [pair(reference.correct_n[rows], rival.correct_n[rows]) for rows in strata]
    shares = [float(weights[rows].sum() / weights.sum()) for rows in strata]
    return combine_bounds([(share, p.loss, loss_bound(p)) for share, p in zip(shares, counts, strict=True)])


def is_better(rival: Evidence, reference: Evidence, policy: Policy, noise_floor: float) -> bool:
    """Say whether the rival is better by the objective, by more than the noise."""
    return _value(rival, policy.objective) * (1 + _blur(policy, noise_floor)) < _value(reference, policy.objective)


def pick_best(able: Sequence[Evidence], policy: Policy, noise_floor: float) -> Evidence:
    """Return the best by the objective; among those within the noise of it, the first by `policy.equals`."""
    best = min(_value(e, policy.objective) for e in able)
    equals = [e for e in able if _value(e, policy.objective) <= best * (1 + _blur(policy, noise_floor))]
    return min(equals, key=lambda e: (*_ranks(e, (*policy.equals, policy.objective)), e.name))


def pareto(field: Sequence[Evidence]) -> list[Evidence]:
    """Return those that no other beats in both accuracy and median time, the fastest first."""
    ordered = sorted(field, key=lambda e: (_value(e, "p50_ms"), -_value(e, "accuracy"), e.name))
    front: list[Evidence] = []
    for e in ordered:
        if not front or _value(e, "accuracy") > _value(front[-1], "accuracy"):
            front.append(e)
    return front


def _blur(policy: Policy, noise_floor: float) -> float:
    return noise_floor if policy.objective in TIMES else 0.0


def _value(evidence: Evidence, name: str) -> float:
    value = evidence.figure(name)
    return float("inf") if value is None else value


def _ranks(evidence: Evidence, names: Sequence[str]) -> list[float]:
    return [-_value(evidence, name) if name == "accuracy" else _value(evidence, name) for name in names]
