"""The choice in words: the rule, the winner, and the one reason why each other candidate lost."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.choose.policy import BUDGETS, FLOORS, OBJECTIVES, Policy
from benchmarks.choose.rule import CandidateMetrics, Ranking


def explain_rule(policy: Policy) -> str:
    """Return the rule in words, with the limits, costs and margin of this policy."""
    limits = [f"{BUDGETS[name][0]} at most {limit:g} {BUDGETS[name][1]}" for name, limit in policy.limits(BUDGETS)]
    limits += [f"{FLOORS[name]} at least {100 * limit:g}%" for name, limit in policy.limits(FLOORS)]
    limits += [f"of {name} on frames at least {100 * limit:g}%" for name, limit in policy.frame_recalls.items()]
    costs = ", ".join(f"{name} {cost:g}" for name, cost in policy.miss_costs.items())
    asked = f"Limits: {', '.join(map(str.rstrip, limits))}. " if limits else ""
    best = f"candidate with the least cost of misses ({costs}, others 1)" if costs else "most accurate candidate"
    best = f"{_explain_frames(policy)}The {best}"
    return (
        f"{asked}{best} on the test split is the reference. A {_comparative(policy)} one replaces it only where the"
        " data show that its loss against the reference is small: the upper 95% bound of the loss (one-sided, Tango's"
        f" paired score) must be under {_points(policy.margin)}. Of these and the reference, the"
        f" {OBJECTIVES[policy.objective]} goes to production; ties are broken by"
        f" {', then '.join(policy.tie_breakers) or 'name'}."
    )


def _explain_frames(policy: Policy) -> str:
    if policy.frame_loss is None:
        return ""
    return (
        "Where labeled frames were measured, a candidate that names fewer of their objects rightly than the best one,"
        " or gives false alarms in more of them, is out: the whole 95% interval of its paired loss is over"
        f" {_points(policy.frame_loss)}. "
    )


def describe_choice(ranking: Ranking, candidates: Sequence[CandidateMetrics], policy: Policy) -> str:
    """Return the choice in one sentence, or that there is none and what came nearest."""
    if ranking.chosen is None:
        return _describe_failure(ranking, candidates, policy)
    won = ranking.chosen
    times = f"p50 {_value(won, 'p50_ms'):.2f} ms, p99 {_value(won, 'p99_ms'):.2f} ms"
    figures = f"{100 * _accuracy(won):.1f}% of the test rows, {times}"
    why = explain(won, ranking, policy, short=True)
    return f"{won.name} goes to production ({figures}): {why}."


def role(candidate: CandidateMetrics, ranking: Ranking) -> str:
    """Return chosen, reference or rejected."""
    if candidate is ranking.chosen:
        return "chosen"
    return "reference" if candidate is ranking.reference else "rejected"


def explain(candidate: CandidateMetrics, ranking: Ranking, policy: Policy, *, short: bool = False) -> str:
    """Return the one reason why a candidate won or lost.

    short: leave out why a more accurate candidate is infeasible.
    """
    chosen, reference = ranking.chosen, ranking.reference
    if reason := ranking.infeasible.get(candidate.name):
        return reason
    if chosen is None or reference is None:
        return "no candidate meets the policy"
    if candidate is chosen:
        return _explain_winner(chosen, ranking, policy, short)
    if candidate is reference:
        won = f"{chosen.name} is {_comparative(policy)}, and its loss is shown to be under the margin"
        return f"it is {_describe_best(ranking, policy, short)}, but {won}"
    if candidate.name not in ranking.faster:
        return (
            f"it is not {_comparative(policy)} than {reference.name} ({_both(candidate, reference, policy.objective)})"
        )
    if candidate.name not in ranking.non_inferior:
        loss = ranking.losses[candidate.name]
        return (
            f"it is {_comparative(policy)}, but may lose up to {100 * loss.bound:.2f} points against {reference.name}"
            f" (upper 95% bound; {100 * loss.observed:.2f} observed), and the margin is {_points(policy.margin)}"
        )
    advantage = _describe_advantage(chosen, candidate, policy)
    return f"it could replace {reference.name}, too, but {chosen.name} is {advantage}"


def _explain_winner(chosen: CandidateMetrics, ranking: Ranking, policy: Policy, short: bool) -> str:
    reference = ranking.reference
    if reference is None or chosen is reference:
        return (
            f"it is {_describe_best(ranking, policy, short)}, and of no {_comparative(policy)} one is it shown that the"
            " loss is under the margin"
        )
    ratio = _value(reference, policy.objective) / _value(chosen, policy.objective)
    return (
        f"it is {_comparative(policy)} than {reference.name} by a factor of {ratio:.2f}, and its loss is at most"
        f" {100 * ranking.losses[chosen.name].bound:.2f} points with 95% confidence, under the margin of"
        f" {_points(policy.margin)}"
    )


def _points(part: float) -> str:
    return f"{100 * part:g} point{'' if part == 0.01 else 's'}"


def _describe_best(ranking: Ranking, policy: Policy, short: bool) -> str:
    """Say that the reference is the best; where an infeasible candidate did better, say among whom."""
    best = "least costly" if policy.miss_costs else "most accurate"
    if (out := ranking.best_infeasible) is None:
        return f"the {best}"
    if short:
        return f"the {best} of those that may be chosen"
    reason = ranking.infeasible[out.name]
    return f"the {best} of those that may be chosen ({out.name}, {100 * _accuracy(out):.1f}%, may not: {reason})"


def _describe_failure(ranking: Ranking, candidates: Sequence[CandidateMetrics], policy: Policy) -> str:
    selectable = [c for c in candidates if not c.why_not]
    able = [c for c in selectable if c.metric(policy.objective) is not None]
    if not able:
        why = f", for the first {candidates[0].why_not}" if candidates and candidates[0].why_not else ""
        return f"no candidate can go to production: none is selectable{why}"
    nearest = min(able, key=lambda c: _value(c, policy.objective))
    return f"no candidate can go to production: for the nearest, {nearest.name}, {ranking.infeasible[nearest.name]}"


def _describe_advantage(winner: CandidateMetrics, loser: CandidateMetrics, policy: Policy) -> str:
    for name in (policy.objective, *policy.tie_breakers):
        mine, other = winner.metric(name), loser.metric(name)
        if mine is None or other is None or mine == other:
            continue
        if name == "accuracy" and mine > other:
            return f"more accurate by {100 * (mine - other):.2f} points"
        if name != "accuracy" and mine < other:
            return f"better in {name} ({_both(winner, loser, name)})"
    return "equal in all that the policy names, and first by name"


def _comparative(policy: Policy) -> str:
    return OBJECTIVES[policy.objective].replace("est", "er", 1)


def _both(one: CandidateMetrics, other: CandidateMetrics, name: str) -> str:
    unit = "MB" if name == "size_mb" else "ms"
    return f"{_value(one, name):.3g} against {_value(other, name):.3g} {unit}"


def _accuracy(candidate: CandidateMetrics) -> float:
    return candidate.metric("accuracy") or 0.0


def _value(candidate: CandidateMetrics, name: str) -> float:
    value = candidate.metric(name)
    return float("nan") if value is None else value
