"""The rule that chooses the production model; `explain.explain_rule` describes it to the reader of a report.

A candidate that breaks a limit is infeasible, and so is one that is shown to be worse on labeled frames than the best
one there: frames are what the car sees, so no speed makes up for a loss on them. The most accurate feasible candidate
is the reference. A faster one may replace it only where the test rows show that it loses less than the margin. A test
of difference would not do, since a small test split shows no difference at all. The upper bound of the loss is compared
with the margin instead (a non-inferiority test). The bound is Tango's: both candidates answer the same rows, and differ
on few. An interval by the normal distribution has zero width where they differ on none, and would call any faster
candidate equal.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.choose.candidate_metrics import FRAMES, CandidateMetrics
from benchmarks.choose.policy import BUDGETS, FLOORS, Policy
from core.clusters import design_effect
from core.stats import (
    MOST_SAMPLES,
    Floats,
    Interval,
    PairCounts,
    combine_bounds,
    count_pairs,
    loss_bound,
    mcnemar_p,
    paired_interval,
)

TIMES = ("p50_ms", "p99_ms", "age_ms")
"""Objectives whose measurement has noise: differences within it do not count."""


@dataclass(frozen=True)
class Loss:
    """The accuracy that a candidate loses against the reference, paired over the same rows."""

    pairs: PairCounts
    observed: float
    """Accuracy of the reference minus its own."""
    interval: Interval
    """Two-sided 95%, of the plain accuracy."""
    bound: float
    """One-sided 95% upper bound, weighted by the policy's costs; it is compared with the margin."""
    mcnemar_p: float


@dataclass(frozen=True)
class Ranking:
    """The decision of the rule."""

    chosen: CandidateMetrics | None
    reference: CandidateMetrics | None
    infeasible: dict[str, str]
    """{name of an infeasible candidate: the first reason}."""
    better: frozenset[str]
    """Candidates that are better than the reference by the objective, beyond the noise."""
    non_inferior: frozenset[str]
    """Candidates of `better` whose loss is shown to be under the margin."""
    losses: dict[str, Loss]
    """{name: loss against the reference}, without the reference itself."""
    best_infeasible: CandidateMetrics | None = None
    """The infeasible candidate with the best utility, where that is better than the reference's."""


def apply_rule(candidates: Sequence[CandidateMetrics], policy: Policy, noise_floor: float = 0.0) -> Ranking:
    """Apply the rule. noise_floor: the relative difference under which two times count as equal."""
    infeasible = _find_infeasible(candidates, policy)
    feasible = [c for c in candidates if c.name not in infeasible]
    if not feasible:
        return Ranking(None, None, infeasible, frozenset(), frozenset(), {})
    reference = _pick_reference(feasible, policy)
    rivals = [c for c in candidates if c is not reference]
    # of the infeasible rivals too: the report shows their loss
    losses = {rival.name: measure_loss(reference, rival, policy) for rival in rivals}
    # sizes are exact: a smaller file is smaller by any amount
    noise_margin = noise_floor if policy.objective in TIMES else 0.0
    limit = reference.minimized(policy.objective)
    # beyond the noise: a difference within it is no reason to give up accuracy
    better = []
    for rival in rivals:
        if rival.name not in infeasible and rival.minimized(policy.objective) * (1 + noise_margin) < limit:
            better.append(rival)
    non_inferior = [rival for rival in better if losses[rival.name].bound < policy.margin]
    return Ranking(
        chosen=pick_best([reference, *non_inferior], policy, noise_margin),
        reference=reference,
        infeasible=infeasible,
        better=frozenset(rival.name for rival in better),
        non_inferior=frozenset(rival.name for rival in non_inferior),
        losses=losses,
        best_infeasible=_find_best_infeasible(candidates, infeasible, reference, policy),
    )


def _find_infeasible(candidates: Sequence[CandidateMetrics], policy: Policy) -> dict[str, str]:
    """Return {name of an infeasible candidate: the first reason}."""
    infeasible = {}
    for candidate in candidates:
        if reason := reason_infeasible(candidate, policy):
            infeasible[candidate.name] = reason
    for name in FRAMES:
        # one after the other: the best in one comparison may be worse in the other, and no candidate would be left
        feasible = [c for c in candidates if c.name not in infeasible]
        infeasible |= reasons_worse_on_frames(feasible, name, policy)
    return infeasible


def _pick_reference(feasible: Sequence[CandidateMetrics], policy: Policy) -> CandidateMetrics:
    """Return the candidate with the best utility; of equal ones the first by the objective and the tie breakers."""

    # equal utilities can differ in their last bits, since the sums run over other rows: rounding makes them equal
    def order(candidate: CandidateMetrics) -> tuple[float | str, ...]:
        tie_breakers = _sort_key(candidate, policy.objective, *policy.tie_breakers)
        return (-round(candidate.utility(policy), 12), *tie_breakers)

    return min(feasible, key=order)


def _find_best_infeasible(
    candidates: Sequence[CandidateMetrics], infeasible: Mapping[str, str], reference: CandidateMetrics, policy: Policy
) -> CandidateMetrics | None:
    """Return the infeasible candidate with the best utility, where that is better than the reference's."""
    limit = reference.utility(policy) + 1e-12  # by more than rounding
    better = [c for c in candidates if c.name in infeasible and c.utility(policy) > limit]
    return max(better, key=lambda c: (c.utility(policy), c.name), default=None)


def reason_infeasible(candidate: CandidateMetrics, policy: Policy) -> str | None:
    """Return a description of the first limit that a candidate breaks on its own, without its rivals; else None."""
    if candidate.why_not:
        return candidate.why_not
    for name, limit in policy.limits(BUDGETS):
        what, unit = BUDGETS[name]
        value = candidate.metric(name)
        budget = f"{limit:g} {unit}".rstrip()  # a calibration error has no unit
        # without a measurement nobody knows whether the limit is kept, so it counts as broken
        if value is None:
            return f"{what} was not measured, and the policy limits it to {budget}"
        if value > limit:
            reached = f"{value:.3g} {unit}".rstrip()
            return f"{what}, {reached}, is over the budget of {budget}"
    floors = [(FLOORS[name], candidate.metric(name), limit) for name, limit in policy.limits(FLOORS)]
    for label, limit in policy.frame_recalls.items():
        floors.append((f"{FLOORS['frame_recall']}, of {label}", candidate.metric(f"frame_recalls.{label}"), limit))
    for what, value, limit in floors:
        if value is None:
            return f"{what} was not measured, and the policy asks for {100 * limit:g}%"
        if value < limit:
            return f"{what}, {100 * value:.1f}%, is under the floor of {100 * limit:g}%"
    # the objective has no limit, but without it the candidate cannot be compared
    if candidate.metric(policy.objective) is None:
        return f"its {policy.objective}, the objective, was not measured"
    return None


def excess(candidate: CandidateMetrics, policy: Policy) -> float:
    """Return how far a candidate is beyond the limit that it breaks most, as a part of this limit; 0 within all.

    Infinity where a limited metric was not measured, or where the limit is 0.
    """
    parts = [0.0]
    for name, limit in policy.limits((*BUDGETS, *FLOORS)):
        value = candidate.metric(name)
        over = math.inf if value is None else (limit - value if name in FLOORS else value - limit)
        parts.append(over / limit if limit else math.copysign(math.inf, over))
    for label, limit in policy.frame_recalls.items():
        recall = candidate.metric(f"frame_recalls.{label}")
        parts.append(math.inf if recall is None else (limit - recall) / limit)
    return max(parts)


def reasons_worse_on_frames(rivals: Sequence[CandidateMetrics], name: str, policy: Policy) -> dict[str, str]:
    """Return {candidate: reason} of those that lose more on labeled frames against the best than the policy allows.

    A loss counts where its whole paired 95% interval lies beyond the limit; the objects of one frame are alike, so the
    interval is as wide as frames, not objects, make it. name: a key of FRAMES.
    """
    framed = [c for c in rivals if len(c.frames.get(name, ()))]
    if policy.frame_loss is None or not framed:
        return {}
    best = max(framed, key=lambda c: (float(c.frames[name].mean()), c.name))
    reasons = {c.name: "it was not measured on the labeled frames" for c in rivals if c not in framed}
    for c in framed:
        best_n, own_n = best.frames[name], c.frames[name]
        # without frames, in older results, each object counts as independent of the others
        frame_n = c.frame_of.get(name, np.arange(len(own_n)))
        deff = design_effect(best_n.astype(int) - own_n, frame_n)
        interval = paired_interval(count_pairs(best_n, own_n), deff=deff)
        # the whole interval: with few frames a loss may be chance, and no candidate is thrown out by chance
        if interval.low > policy.frame_loss:
            low, high = (100 * edge for edge in interval)
            share = f"{100 * c.frames[name].mean():.1f}% {FRAMES[name]}"
            with_best = f"{100 * best.frames[name].mean():.1f}% with {best.name}"
            reasons[c.name] = f"{share}, against {with_best}: a loss of {low:.1f} to {high:.1f} points (95% interval)"
    return reasons


def measure_loss(reference: CandidateMetrics, rival: CandidateMetrics, policy: Policy) -> Loss:
    """Return the paired loss of `rival` against the reference."""
    pairs = count_pairs(reference.correct_n, rival.correct_n)
    return Loss(pairs, pairs.loss, paired_interval(pairs), weighted_bound(reference, rival, policy), mcnemar_p(pairs))


def weighted_bound(reference: CandidateMetrics, rival: CandidateMetrics, policy: Policy) -> float:
    """Return the one-sided 95% upper bound of the loss of utility: Tango's, combined over the groups of equal cost."""
    weights = reference.weights(policy)
    strata = []
    for cost in np.unique(weights):  # within rows of one cost, the plain paired bound holds
        rows = weights == cost
        pairs = count_pairs(reference.correct_n[rows], rival.correct_n[rows])
        # of the cost of all misses: a class that costs more counts for more of the loss
        share = float(weights[rows].sum() / weights.sum())
        strata.append((share, pairs.loss, loss_bound(pairs)))
    return combine_bounds(strata)


def rows_needed(weights_n: Floats, margin: float) -> int:
    """Return the fewest test rows that can show the loss of a faster rival to be under `margin`.

    Its loss is a row at least, since of equals the fastest is the reference; the bound is lowest where all other
    answers agree. weights_n: the cost of missing each row; more rows are taken to have the same costs, in proportion.
    """
    costs, counts = np.unique(weights_n, return_counts=True)
    shares = (costs * counts / weights_n.sum()).tolist()

    def enough(n: int) -> bool:
        rows = [max(1, n * count // len(weights_n)) for count in counts.tolist()]
        bounds = []
        for missed in range(len(rows)):  # the cost of the one row that is missed
            pairs = [PairCounts(int(i == missed), 0, of_cost) for i, of_cost in enumerate(rows)]
            strata = [(share, pair.loss, loss_bound(pair)) for share, pair in zip(shares, pairs, strict=True)]
            bounds.append(combine_bounds(strata))
        return min(bounds) < margin

    return bisect_left(range(MOST_SAMPLES), True, key=enough)


def pick_best(candidates: Sequence[CandidateMetrics], policy: Policy, noise_margin: float) -> CandidateMetrics:
    """Return, of the candidates within the noise of the best by the objective, the first by the tie breakers."""
    # relative to the single best: "equal within the noise" is not transitive, so pairwise ties would give no order
    limit = min(c.minimized(policy.objective) for c in candidates) * (1 + noise_margin)
    tied = [c for c in candidates if c.minimized(policy.objective) <= limit]
    return min(tied, key=lambda c: _sort_key(c, *policy.tie_breakers, policy.objective))


def pareto(candidates: Sequence[CandidateMetrics]) -> list[CandidateMetrics]:
    """Return the candidates that no other beats in both accuracy and median time, the fastest first."""
    front: list[CandidateMetrics] = []
    for c in sorted(candidates, key=lambda c: _sort_key(c, "p50_ms", "accuracy")):
        # sorted by time: c is on the front if it is more accurate than all faster ones
        if not front or c.minimized("accuracy") < front[-1].minimized("accuracy"):
            front.append(c)
    return front


def _sort_key(candidate: CandidateMetrics, *names: str) -> tuple[float | str, ...]:
    """Return a key that sorts by these metrics, the most important first, then by name."""
    return (*(candidate.minimized(name) for name in names), candidate.name)
