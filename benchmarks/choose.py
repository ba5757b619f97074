"""The rule that chooses the production model, stated once, and what it says of each candidate that lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.statistics import Bools, Interval, Pairs, loss_bound, mcnemar_p, pair, paired_interval
from inference.errors import InputError


@dataclass(frozen=True)
class Policy:
    """What a candidate must keep to, and what may decide between those that do."""

    p99_ms: float = 33.0
    """Budget of the 99th percentile of a frame: a 30 Hz camera leaves 33 ms."""
    margin: float = 0.01
    """A faster candidate wins only if the upper 95% bound of its paired accuracy loss stays under this."""

    def __post_init__(self) -> None:
        if not self.p99_ms > 0:
            raise InputError(f"policy.p99_ms is {self.p99_ms}: give milliseconds above 0")
        if not 0 < self.margin < 1:
            raise InputError(f"policy.margin is {self.margin}: give a part of 1, such as 0.01")


@dataclass(frozen=True)
class Evidence:
    """What was measured of one candidate, as far as the choice needs it."""

    name: str
    correct_n: Bools
    """Whether each test row was right; the same rows for every candidate."""
    p50_ms: float
    p99_ms: float
    bytes: int
    selectable: bool = True

    @property
    def accuracy(self) -> float:
        """The part of the rows that were right."""
        return float(np.mean(self.correct_n))


@dataclass(frozen=True)
class Verdict:
    """One candidate's part in the choice. The paired figures are against the reference, None without one."""

    name: str
    role: str
    """chosen, reference or rejected."""
    why: str
    pairs: Pairs | None = None
    loss: float | None = None
    loss_interval: Interval | None = None
    loss_bound: float | None = None
    mcnemar_p: float | None = None


@dataclass(frozen=True)
class Choice:
    """The outcome. `chosen` is None when nothing fits; `sentence` says it in words either way."""

    chosen: str | None
    reference: str | None
    sentence: str
    verdicts: tuple[Verdict, ...]


def reason_unfit(evidence: Evidence, policy: Policy) -> str | None:
    """Return the one reason why a candidate cannot be chosen whatever its rivals, or None."""
    if not evidence.selectable:
        return "it was exported at another size than it was trained at: for latency only"
    if evidence.p99_ms > policy.p99_ms:
        return f"its p99 of {evidence.p99_ms:.2f} ms is over the budget of {policy.p99_ms:g} ms"
    return None


def choose(field: Sequence[Evidence], policy: Policy, noise_floor: float = 0.0) -> Choice:
    """Choose by the rule: see `explain_rule`. `noise_floor`: relative times closer than this are equal."""
    unfit = {e.name: reason for e in field if (reason := reason_unfit(e, policy))}
    fit = [e for e in field if e.name not in unfit]
    if not fit:
        verdicts = tuple(Verdict(name, "rejected", reason) for name, reason in unfit.items())
        return Choice(None, None, _say_nothing_fits(field, policy), verdicts)
    reference = min(fit, key=lambda e: (-e.accuracy, e.p50_ms, e.bytes, e.name))
    counts = {e.name: pair(reference.correct_n, e.correct_n) for e in field}
    bounds = {e.name: loss_bound(counts[e.name]) for e in fit}
    faster = [e for e in fit if e is not reference and is_faster(e, reference, noise_floor)]
    equal_or_better = [e for e in faster if bounds[e.name] < policy.margin]
    winner = pick_fastest([reference, *equal_or_better], noise_floor)
    verdicts = []
    for e in field:
        if e is winner:
            why = explain_winner(e, reference, bounds[e.name], policy)
        elif reason := unfit.get(e.name):
            why = reason
        elif e is reference:
            why = f"it is the most accurate, but {winner.name} is faster and not shown to be worse by the margin"
        elif e not in faster:
            why = f"it is not faster than {reference.name} ({e.p50_ms:.2f} against {reference.p50_ms:.2f} ms median)"
        elif e not in equal_or_better:
            why = _say_too_lossy(counts[e.name], bounds[e.name], policy)
        else:
            why = f"{winner.name} is as good by the same rule, and {_say_better(winner, e, noise_floor)}"
        role = "chosen" if e is winner else "reference" if e is reference else "rejected"
        verdicts.append(_verdict(e, role, why, None if e is reference else counts[e.name]))
    return Choice(
        winner.name, reference.name, _say_choice(winner, reference, bounds[winner.name], policy), tuple(verdicts)
    )


def is_faster(rival: Evidence, reference: Evidence, noise_floor: float) -> bool:
    """Say whether the rival's median is below the reference's by more than the noise."""
    return rival.p50_ms * (1 + noise_floor) < reference.p50_ms


def pick_fastest(able: Sequence[Evidence], noise_floor: float) -> Evidence:
    """Return the fastest; among those within the noise of it, the most accurate, then the smallest, then by name."""
    fastest = min(e.p50_ms for e in able)
    equals = [e for e in able if e.p50_ms <= fastest * (1 + noise_floor)]
    return min(equals, key=lambda e: (-e.accuracy, e.bytes, e.p50_ms, e.name))


def explain_rule(policy: Policy) -> str:
    """Return the rule in words."""
    return (
        f"Of the candidates whose p99 of a frame is within {policy.p99_ms:g} ms, the most accurate on the test split is"
        " the reference. A faster one takes its place only if the upper 95% bound (one-sided, Tango's paired score) of"
        f" its accuracy loss against the reference is under {100 * policy.margin:g} points: missing evidence is not"
        " equality. The fastest of those wins; among equally fast ones the most accurate, then the smallest."
    )


def explain_winner(winner: Evidence, reference: Evidence, bound: float, policy: Policy) -> str:
    """Return why the winner won."""
    if winner is reference:
        return "it is the most accurate within the budget, and no faster one is shown to be as good"
    return (
        f"it is {reference.p50_ms / winner.p50_ms:.2f}x as fast as {reference.name}, and its accuracy loss is at most"
        f" {100 * bound:.2f} points with 95% confidence, under the margin of {100 * policy.margin:g}"
    )


def _say_choice(winner: Evidence, reference: Evidence, bound: float, policy: Policy) -> str:
    return (
        f"{winner.name} goes to production ({100 * winner.accuracy:.1f}% of the test rows, p50 {winner.p50_ms:.2f} ms,"
        f" p99 {winner.p99_ms:.2f} ms): {explain_winner(winner, reference, bound, policy)}."
    )


def _say_nothing_fits(field: Sequence[Evidence], policy: Policy) -> str:
    selectable = [e for e in field if e.selectable]
    if not selectable:
        return "no candidate can go to production: none is selectable"
    nearest = min(selectable, key=lambda e: e.p99_ms)
    return (
        f"no candidate can go to production: the nearest, {nearest.name}, has a p99 of {nearest.p99_ms:.2f} ms"
        f" against the budget of {policy.p99_ms:g} ms"
    )


def _say_too_lossy(pairs: Pairs, bound: float, policy: Policy) -> str:
    return (
        f"it is faster, but may lose up to {100 * bound:.2f} points of accuracy (95% bound; {100 * pairs.loss:.2f} seen),"
        f" which is not under the margin of {100 * policy.margin:g}"
    )


def _say_better(winner: Evidence, loser: Evidence, noise_floor: float) -> str:
    if winner.p50_ms * (1 + noise_floor) < loser.p50_ms:
        return f"faster ({winner.p50_ms:.2f} against {loser.p50_ms:.2f} ms median)"
    if winner.accuracy > loser.accuracy:
        return f"as fast within the noise and more accurate ({100 * (winner.accuracy - loser.accuracy):.2f} points)"
    if winner.bytes < loser.bytes:
        return f"as fast and as accurate, and smaller ({winner.bytes / 1e6:.1f} against {loser.bytes / 1e6:.1f} MB)"
    return "as fast, as accurate and as small, and first by median or name"


def _verdict(evidence: Evidence, role: str, why: str, pairs: Pairs | None) -> Verdict:
    if pairs is None:
        return Verdict(evidence.name, role, why)
    return Verdict(
        evidence.name, role, why, pairs, pairs.loss, paired_interval(pairs), loss_bound(pairs), mcnemar_p(pairs)
    )
