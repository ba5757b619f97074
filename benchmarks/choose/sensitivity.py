"""Sensitivity of the choice: the limits at which it changes, and how often resampled data give the same choice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.choose.candidate_metrics import CandidateMetrics
from benchmarks.choose.policy import Policy
from benchmarks.choose.rule import apply_rule
from core.stats import Floats

REDRAWS = 300
BUDGETS_MS = (1, 2, 5, 10, 20, 33, 50, 100)
"""The p99 budgets, in milliseconds, for which a sentence says what would be chosen."""
MARGINS = (0.0025, 0.005, 0.01, 0.02, 0.03, 0.05)


@dataclass(frozen=True)
class LimitStep:
    """The choice for limits from `start` to the next step; None where no candidate meets the policy."""

    start: float
    chosen: str | None


@dataclass(frozen=True)
class Sensitivity:
    """The choice under other limits and on resampled data."""

    redraws: int
    """Number of bootstrap resamples of test rows and latency rounds."""
    chosen: dict[str, float]
    """{candidate, or "None": the part of the resamples that choose it}."""
    repeats: float
    """The part of the resamples that give the same choice."""
    optimism: float | None
    """Mean over the resamples: the winner's accuracy on the resampled rows, which chose it, less that on all rows."""
    corrected_accuracy: float | None
    """The accuracy of the chosen candidate less the optimism; None where none is chosen."""
    budgets: tuple[LimitStep, ...]
    """The choice over every p99 budget, in milliseconds."""
    margins: tuple[LimitStep, ...]
    sentences: tuple[str, ...]


def measure_sensitivity(
    candidates: Sequence[CandidateMetrics], rounds_ms: Sequence[Floats], policy: Policy, noise_floor: float
) -> Sensitivity:
    """Choose again with other limits, without the winner, and on resampled data. rounds_ms: see `bootstrap_choice`."""
    chosen = _chosen_name(candidates, policy, noise_floor)
    parts, optimism = bootstrap_choice(candidates, rounds_ms, policy, noise_floor)
    accuracy = next((c.metric("accuracy") for c in candidates if c.name == chosen), None)
    return Sensitivity(
        redraws=REDRAWS,
        chosen=parts,
        repeats=parts.get(str(chosen), 0.0),
        optimism=optimism,
        corrected_accuracy=None if accuracy is None or optimism is None else accuracy - optimism,
        budgets=step_over_budgets(candidates, policy, noise_floor),
        margins=step_over_margins(candidates, policy, noise_floor),
        sentences=tuple(describe_changes(candidates, policy, noise_floor, chosen)),
    )


def step_over_budgets(
    candidates: Sequence[CandidateMetrics], policy: Policy, noise_floor: float
) -> tuple[LimitStep, ...]:
    """Return the choice for every p99 budget; it can change only at the p99 of a candidate."""
    # between two of these budgets the same candidates are within the limit, so no other budget needs to be tried
    times_ms = [candidate.metric("p99_ms") for candidate in candidates]
    steps = []
    for budget in sorted({ms for ms in times_ms if ms is not None}):
        chosen = _chosen_name(candidates, replace(policy, p99_ms=budget), noise_floor)
        steps.append(LimitStep(budget, chosen))
    return _merge(steps)


def step_over_margins(
    candidates: Sequence[CandidateMetrics], policy: Policy, noise_floor: float
) -> tuple[LimitStep, ...]:
    """Return the choice for margins of practical size."""
    steps = []
    for margin in sorted({*MARGINS, policy.margin}):
        chosen = _chosen_name(candidates, replace(policy, margin=margin), noise_floor)
        steps.append(LimitStep(margin, chosen))
    return _merge(steps)


def bootstrap_choice(
    candidates: Sequence[CandidateMetrics],
    rounds_ms: Sequence[Floats],
    policy: Policy,
    noise_floor: float,
    *,
    redraws: int = REDRAWS,
    seed: int = 0,
) -> tuple[dict[str, float], float | None]:
    """Bootstrap the whole choice over test rows and latency rounds; return the part that each wins, and the optimism.

    The optimism is that of `Sensitivity`. rounds_ms: (rounds, calls) of each candidate.
    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), section 17.6.
    """
    rng = np.random.default_rng(seed)
    by_name = {c.name: c for c in candidates}
    wins: Counter[str | None] = Counter()
    optimism = []
    for _ in range(redraws):
        # the same rows and rounds for all candidates, which keeps their comparisons paired
        rows = rng.integers(0, len(candidates[0].labels_n), len(candidates[0].labels_n))
        rounds = rng.integers(0, len(rounds_ms[0]), len(rounds_ms[0]))
        drawn = [_resampled(c, times[rounds], rows) for c, times in zip(candidates, rounds_ms, strict=True)]
        chosen = apply_rule(drawn, policy, noise_floor).chosen
        wins[chosen.name if chosen else None] += 1
        if chosen:
            # a winner was also lucky with the rows that chose it: the mean of that luck is in the real choice, too
            optimism.append(float(chosen.correct_n.mean() - by_name[chosen.name].correct_n.mean()))
    parts = {str(name): count / redraws for name, count in wins.most_common()}
    return parts, float(np.mean(optimism)) if optimism else None


def describe_changes(
    candidates: Sequence[CandidateMetrics], policy: Policy, noise_floor: float, chosen: str | None
) -> list[str]:
    """Return sentences on the choice with other p99 budgets, and without the winner."""
    budgets: dict[str | None, list[str]] = {}
    for ms in BUDGETS_MS:
        name = _chosen_name(candidates, replace(policy, p99_ms=ms), noise_floor)
        if name != chosen:
            budgets.setdefault(name, []).append(str(ms))
    found = []
    for name, (*others_ms, last_ms) in budgets.items():
        limits = f"{', '.join(others_ms)} or {last_ms}" if others_ms else last_ms
        found.append((f"With a p99 budget of {limits} ms", name))
    if chosen:
        others = [c for c in candidates if c.name != chosen]
        found.append((f"Without {chosen}", _chosen_name(others, policy, noise_floor)))
    return [f"{what}, {name or 'no candidate'} would go to production." for what, name in found]


def _resampled(candidate: CandidateMetrics, times_ms: Floats, rows: np.ndarray) -> CandidateMetrics:
    # times and answers are resampled; size, age, cold start and the rest stay as measured
    # rounds are drawn whole, for the calls of one round share its disturbances
    p50, p99 = np.quantile(times_ms, (0.5, 0.99)).tolist()
    metrics = {**candidate.metrics, "p50_ms": p50, "p99_ms": p99}
    labels_n = candidate.labels_n[rows]
    predicted_n = candidate.predicted_n[rows]
    return replace(candidate, labels_n=labels_n, predicted_n=predicted_n, metrics=metrics)


def _chosen_name(candidates: Sequence[CandidateMetrics], policy: Policy, noise_floor: float) -> str | None:
    chosen = apply_rule(candidates, policy, noise_floor).chosen
    return chosen.name if chosen else None


def _merge(steps: list[LimitStep]) -> tuple[LimitStep, ...]:
    """Return only the steps at which the choice changes."""
    return tuple(step for i, step in enumerate(steps) if i == 0 or step.chosen != steps[i - 1].chosen)
