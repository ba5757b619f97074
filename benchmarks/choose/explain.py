"""The texts of the choice: the rule, the winner, and the reason why each other candidate lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from benchmarks.choose.candidate_metrics import CandidateMetrics
from benchmarks.choose.policy import BUDGETS, FLOORS, OBJECTIVES, TIE_BREAKERS, Policy
from benchmarks.choose.rule import Ranking, excess, rows_needed

TIMED = ("p99_ms", "age_ms", "cold_start_ms")
"""Limits of times, which other processes on the machine lengthen."""


def explain_rule(policy: Policy) -> str:
    """Return a description of the rule, with the limits, costs and margin of this policy."""
    costs = ", ".join(f"{name} {cost:g}" for name, cost in policy.miss_costs.items())
    best = f"candidate with the lowest cost of misses ({costs}, others 1)" if costs else "most accurate candidate"
    ties = ", then ".join(TIE_BREAKERS[name] for name in policy.tie_breakers) or "name"
    return (
        f"{_explain_limits(policy)}{_explain_frames(policy)}The {best} on the test split is the reference. Another"
        f" candidate may replace it only if it is {_comparative(policy)} and its accuracy loss is shown to be small:"
        " the upper 95% bound of the loss (one-sided, Tango's paired score) must be under"
        f" {_points(policy.margin)}. Of these candidates and the reference, the one that is"
        f" {OBJECTIVES[policy.objective]} goes to production; ties are broken by {ties}."
    )


def _explain_limits(policy: Policy) -> str:
    limits = []
    for name, limit in policy.limits(BUDGETS):
        what, unit = BUDGETS[name]
        limits.append(f"{what} at most {limit:g} {unit}")
    limits += [f"{FLOORS[name]} at least {100 * limit:g}%" for name, limit in policy.limits(FLOORS)]
    of_class = f"{FLOORS['frame_recall']}, of"
    limits += [f"{of_class} {name}, at least {100 * limit:g}%" for name, limit in policy.frame_recalls.items()]
    # stripped: a calibration error has no unit
    return f"Limits: {'; '.join(map(str.rstrip, limits))}. " if limits else ""


def _explain_frames(policy: Policy) -> str:
    if policy.frame_loss is None:
        return ""
    return (
        "Where labeled frames were measured, a candidate is rejected if it is shown to name fewer of their objects"
        " rightly than the best one, or to give false alarms in more of them: the whole 95% interval of the difference"
        f" must be above {_points(policy.frame_loss)}. "
    )


def describe_choice(
    ranking: Ranking, candidates: Sequence[CandidateMetrics], policy: Policy, *, noisy: bool = False
) -> str:
    """Return the choice in one sentence; where there is none, the nearest candidate, its reason, and what to do.

    noisy: the timing was disturbed.
    """
    if ranking.chosen is None:
        return _describe_failure(ranking, candidates, policy, noisy)
    won = ranking.chosen
    times = f"{_value(won, 'p50_ms'):.2f} ms a frame, p99 {_value(won, 'p99_ms'):.2f} ms"
    reason = explain(won, ranking, policy, short=True)
    return f"{won.name} goes to production ({100 * _accuracy(won):.1f}% test accuracy, {times}): {reason}."


def role(candidate: CandidateMetrics, ranking: Ranking) -> str:
    """Return the role of a candidate: one of those of CandidateVerdict."""
    if candidate is ranking.chosen:
        return "chosen"
    if candidate is ranking.reference:
        return "reference"
    return "rejected" if candidate.name in ranking.infeasible else "not chosen"


def explain(candidate: CandidateMetrics, ranking: Ranking, policy: Policy, *, short: bool = False) -> str:
    """Return the reason why a candidate won or lost.

    short: leave out the reason why a more accurate candidate is infeasible.
    """
    # in the order of the rule, so that each candidate gets the first reason that stopped it
    chosen, reference = ranking.chosen, ranking.reference
    if reason := ranking.infeasible.get(candidate.name):
        return reason
    if chosen is None or reference is None:
        return "no candidate meets the policy"
    if candidate is chosen:
        return _explain_winner(chosen, ranking, policy, short)
    if candidate is reference:
        advantage = f"{chosen.name} is {_comparative(policy)}, and its loss is shown to be under the margin"
        return f"it is {_describe_best(ranking, policy, short)}, but {advantage}"
    if candidate.name not in ranking.better:
        values = _describe_values(candidate, reference, policy.objective)
        return f"it is not {_comparative(policy)} than {reference.name} ({values})"
    if candidate.name not in ranking.non_inferior:
        loss = ranking.losses[candidate.name]
        return (
            f"it is {_comparative(policy)}, but its accuracy may be up to {100 * loss.bound:.2f} points below that of"
            f" {reference.name} (upper 95% bound; {100 * loss.observed:.2f} observed): the margin is"
            f" {_points(policy.margin)}{_describe_rows(reference, policy)}"
        )
    advantage = _describe_advantage(chosen, candidate, policy)
    return f"it could also replace {reference.name}, but {chosen.name} is {advantage}"


def _explain_winner(chosen: CandidateMetrics, ranking: Ranking, policy: Policy, short: bool) -> str:
    reference = ranking.reference
    if reference is None or chosen is reference:
        rows = _describe_rows(chosen, policy) if ranking.better else ""
        return (
            f"it is {_describe_best(ranking, policy, short)}, and no candidate that is {_comparative(policy)} is shown"
            f" to lose less than the margin of {_points(policy.margin)}{rows}"
        )
    ratio = _value(reference, policy.objective) / _value(chosen, policy.objective)  # less is better in all objectives
    return (
        f"it is {_comparative(policy)} than {reference.name} by a factor of {ratio:.2f}, and with 95% confidence it"
        f" loses at most {100 * ranking.losses[chosen.name].bound:.2f} points of accuracy, less than the margin of"
        f" {_points(policy.margin)}"
    )


def _describe_rows(reference: CandidateMetrics, policy: Policy) -> str:
    """Return how many test rows are needed, where these are too few to show any loss to be under the margin."""
    weights = reference.weights(policy)
    if (needed := rows_needed(weights, policy.margin)) <= len(weights):
        return ""
    return f"; {len(weights)} test rows cannot show a loss under {_points(policy.margin)}: at least {needed} can"


def _points(part: float) -> str:
    return f"{100 * part:g} point{'' if part == 0.01 else 's'}"


def _describe_best(ranking: Ranking, policy: Policy, short: bool) -> str:
    """Describe the reference: the best of all, or the best that may be chosen where an infeasible one did better."""
    best = "least costly" if policy.miss_costs else "most accurate"
    if (better := ranking.best_infeasible) is None:
        return f"the {best}"
    if short:
        return f"the {best} of those that may be chosen"
    reason = ranking.infeasible[better.name]
    return f"the {best} of those that may be chosen ({better.name}, {100 * _accuracy(better):.1f}%, may not: {reason})"


def _describe_failure(ranking: Ranking, candidates: Sequence[CandidateMetrics], policy: Policy, noisy: bool) -> str:
    selectable = [c for c in candidates if not c.why_not]
    # without the objective a candidate has no place among the others, so it cannot be the nearest
    with_objective = [c for c in selectable if c.metric(policy.objective) is not None]
    if not with_objective:
        reason = f" ({candidates[0].name}: {candidates[0].why_not})" if candidates and candidates[0].why_not else ""
        return f"no candidate can go to production: none is selectable{reason}"
    nearest = min(with_objective, key=lambda c: (excess(c, policy), c.minimized(policy.objective), c.name))
    reason = f"the nearest is {nearest.name}: {ranking.infeasible[nearest.name]}"
    return f"no candidate can go to production; {reason}; {_describe_remedy(candidates, policy, noisy)}"


def _describe_remedy(candidates: Sequence[CandidateMetrics], policy: Policy, noisy: bool) -> str:
    """Return what to do where no candidate is within all limits."""
    timed = [name for name, _ in policy.limits(TIMED)]
    without = replace(policy, p99_ms=None, age_ms=None, cold_start_ms=None)
    if not (noisy and any(excess(c, without) == 0 for c in candidates if not c.why_not)):
        return "change the limits with --policy, or train another network"
    return f"the timing was disturbed: measure again on a quiet machine, or raise {' or '.join(timed)} with --policy"


def _describe_advantage(winner: CandidateMetrics, loser: CandidateMetrics, policy: Policy) -> str:
    for name in (policy.objective, *policy.tie_breakers):
        mine, other = winner.metric(name), loser.metric(name)
        # the two are told apart by the first metric in which they differ, as the rule does
        if mine is None or other is None or mine == other:
            continue
        if name == "accuracy" and mine > other:
            return f"more accurate by {100 * (mine - other):.2f} points"
        if name != "accuracy" and mine < other:
            return f"better in {TIE_BREAKERS.get(name, name)} ({_describe_values(winner, loser, name)})"
    return "equal in every metric of the policy, and first by name"


def _comparative(policy: Policy) -> str:
    return OBJECTIVES[policy.objective].replace("est", "er", 1)  # fastest at p99: faster at p99


def _describe_values(candidate: CandidateMetrics, other: CandidateMetrics, name: str) -> str:
    unit = "MB" if name == "size_mb" else "ms"
    return f"{_value(candidate, name):.3g} against {_value(other, name):.3g} {unit}"


def _accuracy(candidate: CandidateMetrics) -> float:
    return candidate.metric("accuracy") or 0.0


def _value(candidate: CandidateMetrics, name: str) -> float:
    value = candidate.metric(name)
    return float("nan") if value is None else value
