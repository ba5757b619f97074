"""The choice in words: the rule, the winner, and the one reason why each other candidate lost."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.choose.policy import BUDGETS, FLOORS, OBJECTIVES, Policy
from benchmarks.choose.rule import CandidateMetrics, Ranking


def explain_rule(policy: Policy) -> str:
    """Return the rule as this policy makes it."""
    limits = [
        f"{what} is within {limit:g} {unit}".rstrip()
        for name, (what, unit) in BUDGETS.items()
        if (limit := getattr(policy, name)) is not None
    ]
    limits += [
        f"{what} is at least {100 * limit:g}%"
        for name, what in FLOORS.items()
        if (limit := getattr(policy, name)) is not None
    ]
    costs = ", ".join(f"{name} {cost:g}" for name, cost in policy.miss_costs.items())
    best = (
        f"the one with the least cost of misses ({costs}, others 1)" if costs else "the most accurate on the test split"
    )
    return (
        f"Of the candidates {'of which ' + ' and '.join(limits) if limits else 'there are'}, {best} is the reference."
        f" A {_comparative(policy)} one takes its place only if the upper 95% bound"
        f" (one-sided, Tango's paired score) of its loss against the reference is under {_points(policy.margin)}:"
        f" missing candidate is not equality. The {OBJECTIVES[policy.objective]} of those wins; among equals, by"
        f" {', then '.join(policy.tie_breakers) or 'name'}."
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
    """Return the one reason why a candidate won or lost; `short` leaves out what an unfit better one lacks."""
    chosen, reference = ranking.chosen, ranking.reference
    if reason := ranking.infeasible.get(candidate.name):
        return reason
    if chosen is None or reference is None:
        return "nothing fits"
    if candidate is chosen:
        return _explain_winner(chosen, ranking, policy, short)
    if candidate is reference:
        won = f"{chosen.name} is {_comparative(policy)} and shown not to be worse by the margin"
        return f"it is {_describe_best(ranking, policy, short)}, but {won}"
    if candidate.name not in ranking.faster:
        return (
            f"it is not {_comparative(policy)} than {reference.name} ({_both(candidate, reference, policy.objective)})"
        )
    if candidate.name not in ranking.non_inferior:
        loss = ranking.losses[candidate.name]
        seen = f"95% bound; {100 * loss.observed:.2f} seen"
        return (
            f"it is {_comparative(policy)}, but may lose up to {100 * loss.bound:.2f} points against {reference.name}"
            f" ({seen}), which is not under the margin of {_points(policy.margin)}"
        )
    return f"{chosen.name} is not inferior by the same rule, and {_describe_advantage(chosen, candidate, policy)}"


def _explain_winner(chosen: CandidateMetrics, ranking: Ranking, policy: Policy, short: bool) -> str:
    reference = ranking.reference
    if reference is None or chosen is reference:
        return (
            f"it is {_describe_best(ranking, policy, short)}, and no {_comparative(policy)} one is shown to be as good"
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
    """Say that the reference is the best, and of whom: never of everyone where one that is out did better."""
    best = "least costly" if policy.miss_costs else "most accurate"
    if (out := ranking.best_infeasible) is None:
        return f"the {best}"
    if short:
        return f"the {best} of those that may be chosen"
    reason = ranking.infeasible[out.name]
    return f"the {best} of those that may be chosen ({out.name}, {100 * _accuracy(out):.1f}%, may not: {reason})"


def _describe_failure(ranking: Ranking, candidates: Sequence[CandidateMetrics], policy: Policy) -> str:
    able = [e for e in candidates if not e.why_not and e.figure(policy.objective) is not None]
    if not able:
        why = f", for the first {candidates[0].why_not}" if candidates and candidates[0].why_not else ""
        return f"no candidate can go to production: none is selectable{why}"
    nearest = min(able, key=lambda e: _value(e, policy.objective))
    return f"no candidate can go to production: of the nearest, {nearest.name}, {ranking.infeasible[nearest.name]}"


def _describe_advantage(winner: CandidateMetrics, loser: CandidateMetrics, policy: Policy) -> str:
    for name in (policy.objective, *policy.tie_breakers):
        mine, other = winner.figure(name), loser.figure(name)
        if mine is None or other is None or mine == other:
            continue
        if name == "accuracy" and mine > other:
            return f"more accurate by {100 * (mine - other):.2f} points"
        if name != "accuracy" and mine < other:
            return f"better in {name} ({_both(winner, loser, name)})"
    return "equal in all that the policy names; the first by name is taken"


def _comparative(policy: Policy) -> str:
    return OBJECTIVES[policy.objective].replace("est", "er", 1)


def _both(one: CandidateMetrics, other: CandidateMetrics, name: str) -> str:
    unit = "MB" if name == "size_mb" else "ms"
    return f"{_value(one, name):.3g} against {_value(other, name):.3g} {unit}"


def _accuracy(candidate: CandidateMetrics) -> float:
    return candidate.figure("accuracy") or 0.0


def _value(candidate: CandidateMetrics, name: str) -> float:
    value = candidate.figure(name)
    return float("nan") if value is None else value
