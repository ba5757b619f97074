"""The choice in words: the rule, the winner, and the one reason why each other candidate lost."""

from __future__ import annotations

from benchmarks.choose.policy import BUDGETS, FLOORS, OBJECTIVES, Policy
from benchmarks.choose.rule import Evidence, Outcome

UNITS = {"p50_ms": "ms", "p99_ms": "ms", "age_ms": "ms", "size_mb": "MB"}


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
        f" missing evidence is not equality. The {OBJECTIVES[policy.objective]} of those wins; among equals, by"
        f" {', then '.join(policy.equals) or 'name'}."
    )


def say_choice(outcome: Outcome, field: list[Evidence], policy: Policy) -> str:
    """Return the choice in one sentence, or that there is none and what came nearest."""
    if outcome.chosen is None:
        return _say_nothing_fits(outcome, field, policy)
    won = outcome.chosen
    times = f"p50 {_value(won, 'p50_ms'):.2f} ms, p99 {_value(won, 'p99_ms'):.2f} ms"
    figures = f"{100 * _accuracy(won):.1f}% of the test rows, {times}"
    why = explain(won, outcome, policy, short=True)
    return f"{won.name} goes to production ({figures}): {why}."


def role(evidence: Evidence, outcome: Outcome) -> str:
    """Return chosen, reference or rejected."""
    if evidence is outcome.chosen:
        return "chosen"
    return "reference" if evidence is outcome.reference else "rejected"


def explain(evidence: Evidence, outcome: Outcome, policy: Policy, *, short: bool = False) -> str:
    """Return the one reason why a candidate won or lost; `short` leaves out what an unfit better one lacks."""
    chosen, reference = outcome.chosen, outcome.reference
    if reason := outcome.unfit.get(evidence.name):
        return reason
    if chosen is None or reference is None:
        return "nothing fits"
    if evidence is chosen:
        return _explain_winner(chosen, outcome, policy, short)
    if evidence is reference:
        won = f"{chosen.name} is {_comparative(policy)} and shown not to be worse by the margin"
        return f"it is {_say_best(outcome, policy, short)}, but {won}"
    if evidence.name not in outcome.better:
        return (
            f"it is not {_comparative(policy)} than {reference.name} ({_both(evidence, reference, policy.objective)})"
        )
    if evidence.name not in outcome.sound:
        loss = outcome.losses[evidence.name]
        seen = f"95% bound; {100 * loss.observed:.2f} seen"
        return (
            f"it is {_comparative(policy)}, but may lose up to {100 * loss.bound:.2f} points against {reference.name}"
            f" ({seen}), which is not under the margin of {_points(policy.margin)}"
        )
    return f"{chosen.name} is sound by the same rule, and {_say_better(chosen, evidence, policy)}"


def _explain_winner(chosen: Evidence, outcome: Outcome, policy: Policy, short: bool) -> str:
    reference = outcome.reference
    if reference is None or chosen is reference:
        return f"it is {_say_best(outcome, policy, short)}, and no {_comparative(policy)} one is shown to be as good"
    ratio = _value(reference, policy.objective) / _value(chosen, policy.objective)
    return (
        f"it is {_comparative(policy)} than {reference.name} by a factor of {ratio:.2f}, and its loss is at most"
        f" {100 * outcome.losses[chosen.name].bound:.2f} points with 95% confidence, under the margin of"
        f" {_points(policy.margin)}"
    )


def _points(part: float) -> str:
    return f"{100 * part:g} point{'' if part == 0.01 else 's'}"


def _say_best(outcome: Outcome, policy: Policy, short: bool) -> str:
    """Say that the reference is the best, and of whom: never of everyone where one that is out did better."""
    best = "least costly" if policy.miss_costs else "most accurate"
    if (out := outcome.outdone_by) is None:
        return f"the {best}"
    if short:
        return f"the {best} of those that may be chosen"
    reason = outcome.unfit[out.name]
    return f"the {best} of those that may be chosen ({out.name}, {100 * _accuracy(out):.1f}%, may not: {reason})"


def _say_nothing_fits(outcome: Outcome, field: list[Evidence], policy: Policy) -> str:
    able = [e for e in field if not e.why_not and e.figure(policy.objective) is not None]
    if not able:
        why = f", for the first {field[0].why_not}" if field and field[0].why_not else ""
        return f"no candidate can go to production: none is selectable{why}"
    nearest = min(able, key=lambda e: _value(e, policy.objective))
    return f"no candidate can go to production: of the nearest, {nearest.name}, {outcome.unfit[nearest.name]}"


def _say_better(winner: Evidence, loser: Evidence, policy: Policy) -> str:
    for name in (policy.objective, *policy.equals):
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


def _both(one: Evidence, other: Evidence, name: str) -> str:
    return f"{_value(one, name):.3g} against {_value(other, name):.3g} {UNITS[name]}"


def _accuracy(evidence: Evidence) -> float:
    return evidence.figure("accuracy") or 0.0


def _value(evidence: Evidence, name: str) -> float:
    value = evidence.figure(name)
    return float("nan") if value is None else value
