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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from benchmarks.choose.policy import BUDGETS, FLOORS, Policy
from benchmarks.results.candidate import measured
from benchmarks.results.run import RunResults
from core.clusters import design_effect
from core.stats import (
    Bools,
    Floats,
    Interval,
    Ints,
    PairCounts,
    combine_bounds,
    count_pairs,
    loss_bound,
    mcnemar_p,
    paired_interval,
)

TIMES = ("p50_ms", "p99_ms", "age_ms")
"""Objectives whose measurement has noise: differences within it do not count."""
FRAMES = {
    "right_n": "of the objects in labeled frames are named rightly",
    "quiet_n": "of the labeled frames have no false alarm",
}
"""{array of FramesAccuracy: its description}: the comparisons on labeled frames, in this order."""


@dataclass(frozen=True, eq=False)
class CandidateMetrics:
    """The metrics and the answers of one candidate, as the rule reads them."""

    name: str
    labels_n: Ints
    predicted_n: Ints
    """The same rows for every candidate; -1 where they were not measured."""
    classes: tuple[str, ...]
    metrics: Mapping[str, float | None]
    """{name in BUDGETS, FLOORS or OBJECTIVES: value}; None or absent where it was not measured."""
    why_not: str = ""
    """The reason why it may never be chosen, whatever the policy; empty where it may."""
    frames: Mapping[str, Bools] = field(default_factory=dict)
    """{key of FRAMES: right or not, over the same labeled frames for all}; empty where not measured."""
    frame_of: Mapping[str, Ints] = field(default_factory=dict)
    """{key of FRAMES: the frame of each}, where several are of one frame and therefore alike."""

    @property
    def correct_n(self) -> Bools:
        """Whether each test row was answered correctly."""
        return np.asarray(self.labels_n == self.predicted_n)

    def metric(self, name: str) -> float | None:
        """Return the value of a metric; accuracy and worst recall are computed from the answers. None: not measured."""
        if name == "accuracy":
            return float(np.mean(self.correct_n))
        if name == "worst_recall":
            # a class without a test row has no recall
            return min(float(self.correct_n[self.labels_n == c].mean()) for c in np.unique(self.labels_n))
        return self.metrics.get(name)

    def minimized(self, name: str) -> float:
        """Return the metric, signed so that less is better; infinity where it was not measured."""
        value = self.metric(name)
        return float("inf") if value is None else -value if name == "accuracy" else value

    def weights(self, policy: Policy) -> Floats:
        """Return the cost of missing each row, float64 (n,)."""
        return np.array([policy.cost(name) for name in self.classes])[self.labels_n]

    def utility(self, policy: Policy) -> float:
        """Return the accuracy with each row weighted by the cost of missing it."""
        weights = self.weights(policy)
        return float(weights @ self.correct_n / weights.sum())


def metrics_of(results: RunResults) -> list[CandidateMetrics]:
    """Return the metrics and answers of every measured candidate."""
    found = []
    for row in results.candidates:
        accuracy, age, robustness = measured(row.accuracy), measured(row.age_ms), measured(row.robustness)
        frames = measured(row.frames)
        metrics = {
            "p50_ms": row.latency.frame_ms.p50,
            "p99_ms": row.latency.frame_ms.p99,
            "age_ms": age.p99 if age else None,
            "size_mb": row.bytes / 1e6,
            "energy_mj": measured(row.energy_mj),
            "cold_start_ms": measured(row.cold_start_ms),
            "ece": accuracy.ece if accuracy else None,
            "corruption_accuracy": robustness.mean if robustness else None,
            "false_alarms_per_100": frames.false_alarms_per_100 if frames else None,
            "frame_recall": frames.objects.recall if frames and frames.objects.n else None,
        }
        if frames:
            metrics |= {f"frame_recalls.{label}": counts.recall for label, counts in frames.by_class.items()}
        on_frames = {name: getattr(frames, name) == 1 for name in FRAMES if frames and len(getattr(frames, name))}
        # -1 is no class, so that every row counts as wrong
        predicted_n = accuracy.predicted_n if accuracy else np.full(len(results.labels_n), -1)
        facts = row.name, results.labels_n, predicted_n, results.pack.classes, metrics, row.why_not
        frame_of = {"right_n": frames.frame_of_n} if frames and len(frames.frame_of_n) else {}
        found.append(CandidateMetrics(*facts, on_frames, frame_of))
    return found


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
        (what, unit), value = BUDGETS[name], candidate.metric(name)
        if value is None:  # a limit that nobody checked is not kept
            return f"{what} was not measured, and the policy limits it to {limit:g} {unit}".rstrip()
        if value > limit:
            return f"{what}, {value:.3g} {unit}, is over the budget of {limit:g} {unit}".replace(" , ", ", ").rstrip()
    floors = [(FLOORS[name], candidate.metric(name), limit) for name, limit in policy.limits(FLOORS)]
    for label, limit in policy.frame_recalls.items():
        floors.append((f"{FLOORS['frame_recall']}, of {label}", candidate.metric(f"frame_recalls.{label}"), limit))
    for what, value, limit in floors:
        if value is None:
            return f"{what} was not measured, and the policy asks for {100 * limit:g}%"
        if value < limit:
            return f"{what}, {100 * value:.1f}%, is under the floor of {100 * limit:g}%"
    return (
        None
        if candidate.metric(policy.objective) is not None
        else f"its {policy.objective}, the objective, was not measured"
    )


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
