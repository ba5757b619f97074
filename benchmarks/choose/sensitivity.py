"""How sure the choice is: what would change it, how often redrawn evidence repeats it, and how flattered it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.choose.policy import Policy
from benchmarks.choose.rule import Evidence, apply_rule
from benchmarks.results import evidence_of
from core.stats import Floats

REDRAWS = 300
BUDGETS_MS = (1, 2, 5, 10, 20, 33, 50, 100)
"""Budgets that people ask about."""
MARGINS = (0.0025, 0.005, 0.01, 0.02, 0.03, 0.05)


Steps = list[tuple[float, str | None]]
"""From each of these values on, the choice is this candidate; None: nothing fits."""


def step_over_budgets(field: Sequence[Evidence], policy: Policy, noise_floor: float) -> Steps:
    """Return the choice over every p99 budget: it can change only at a candidate's own p99."""
    budgets = sorted({value for e in field if (value := e.figure("p99_ms")) is not None})
    return _merge([(b, _choose(field, replace(policy, p99_ms=b), noise_floor)) for b in budgets])


def step_over_margins(field: Sequence[Evidence], policy: Policy, noise_floor: float) -> Steps:
    """Return the choice over margins of practical size."""
    margins = sorted({*MARGINS, policy.margin})
    return _merge([(m, _choose(field, replace(policy, margin=m), noise_floor)) for m in margins])


def without_winner(field: Sequence[Evidence], policy: Policy, noise_floor: float, chosen: str) -> str | None:
    """Return what would be chosen if the winner were not there."""
    return _choose([e for e in field if e.name != chosen], policy, noise_floor)


def redraw(
    field: Sequence[Evidence],
    frame_ms: Sequence[Floats],
    policy: Policy,
    noise_floor: float,
    *,
    redraws: int = REDRAWS,
    seed: int = 0,
) -> dict[str, Any]:
    """Bootstrap the whole choice over test rows and latency rounds.

    frame_ms: (rounds, calls) a candidate. Returns {"redraws", "chosen": {name: part}, "optimism"}. Optimism is how much
    better a redraw's winner looks on the rows that chose it than on all rows: what choosing on the test split flatters.
    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), section 17.6.
    """
    rng = np.random.default_rng(seed)
    by_name = {e.name: e for e in field}
    wins: Counter[str | None] = Counter()
    optimism = []
    for _ in range(redraws):
        rows = rng.integers(0, len(field[0].labels_n), len(field[0].labels_n))
        rounds = rng.integers(0, len(frame_ms[0]), len(frame_ms[0]))
        drawn = [_redrawn(e, times[rounds], rows) for e, times in zip(field, frame_ms, strict=True)]
        chosen = apply_rule(drawn, policy, noise_floor).chosen
        wins[chosen.name if chosen else None] += 1
        if chosen:
            optimism.append(float(chosen.correct_n.mean() - by_name[chosen.name].correct_n.mean()))
    parts = {str(name): count / redraws for name, count in wins.most_common()}
    return {"redraws": redraws, "chosen": parts, "optimism": float(np.mean(optimism)) if optimism else None}


def describe_confidence(results: dict[str, Any], frame_ms: Sequence[Floats], policy: Policy) -> dict[str, Any]:
    """Return the part of results.json that says what would change the choice and how sure it is."""
    field, floor, chosen = evidence_of(results), results["noise"]["floor"], results["choice"]["chosen"]
    drawn = redraw(field, frame_ms, policy, floor)
    accuracy = next((e.figure("accuracy") for e in field if e.name == chosen), None)
    flattered = drawn["optimism"]
    left = without_winner(field, policy, floor, chosen) if chosen else None
    return {
        "redraws": drawn,
        "repeats": drawn["chosen"].get(str(chosen), 0.0),
        "corrected_accuracy": None if accuracy is None or flattered is None else accuracy - flattered,
        "budgets": [{"from_ms": start, "chosen": name} for start, name in step_over_budgets(field, policy, floor)],
        "margins": [{"from": start, "chosen": name} for start, name in step_over_margins(field, policy, floor)],
        "without_winner": left,
        "sentences": say_changes(field, policy, floor, chosen, left),
    }


def say_changes(
    field: Sequence[Evidence], policy: Policy, noise_floor: float, chosen: str | None, left: str | None
) -> list[str]:
    """Return what would be chosen at other budgets, and without the winner, a sentence each."""
    at = {budget: _choose(field, replace(policy, p99_ms=budget), noise_floor) for budget in BUDGETS_MS}
    said = [f"At a {ms} ms budget: {name or 'nothing fits'}." for ms, name in at.items() if name != chosen]
    if chosen:
        said.append(f"Without {chosen}: {left or 'nothing fits'}.")
    return said


def _redrawn(evidence: Evidence, times_ms: Floats, rows: np.ndarray) -> Evidence:
    p50, p99 = np.quantile(times_ms, (0.5, 0.99)).tolist()
    figures = {**evidence.figures, "p50_ms": p50, "p99_ms": p99}
    return replace(evidence, labels_n=evidence.labels_n[rows], predicted_n=evidence.predicted_n[rows], figures=figures)


def _choose(field: Sequence[Evidence], policy: Policy, noise_floor: float) -> str | None:
    chosen = apply_rule(field, policy, noise_floor).chosen if field else None
    return chosen.name if chosen else None


def _merge(steps: Steps) -> Steps:
    """Drop the steps that change nothing."""
    return [step for i, step in enumerate(steps) if i == 0 or step[1] != steps[i - 1][1]]
