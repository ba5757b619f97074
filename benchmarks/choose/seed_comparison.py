"""Comparison with other seeds of the same training: the spread of the accuracy, and the choice with each seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.choose.candidate_metrics import metrics_of
from benchmarks.choose.policy import Policy
from benchmarks.choose.rule import apply_rule
from benchmarks.results.candidate import measured
from benchmarks.results.run import RunResults, SeedResult, Seeds


@dataclass(frozen=True)
class Spread:
    """An accuracy over seeds. sd: the sample standard deviation."""

    n: int
    mean: float
    sd: float
    values: tuple[float, ...]


@dataclass(frozen=True)
class SeedChoice:
    """The choice with another seed's answers. chosen: None where none meets the policy, or none was exported."""

    run: str
    seed: int | None
    exported: bool
    chosen: str | None


@dataclass(frozen=True)
class SeedComparison:
    """The accuracy over all seeds, and the choice at each."""

    accuracy: dict[str, Spread]
    """{candidate: accuracy of its exported file over the seeds}."""
    networks: dict[str, Spread]
    """{architecture: accuracy of the network as trained over the seeds}."""
    choices: tuple[SeedChoice, ...]
    sentence: str


def compare_seeds(results: RunResults, seeds: Seeds, policy: Policy, chosen: str | None) -> SeedComparison:
    """Return the spread of the accuracies, and the choice with the answers of every other seed."""
    # this run is a seed like the others, and comes first
    own = {}
    for row in results.candidates:
        if accuracy := measured(row.accuracy):
            own[row.name] = accuracy.top1
    exported = []
    for other in seeds.others:
        correct = {name: predicted == results.labels_n for name, predicted in other.predicted_n.items()}
        exported.append({name: float(correct_n.mean()) for name, correct_n in correct.items()})
    accuracies = spread_of([own, *exported])
    networks = spread_of([seeds.trained, *(other.trained for other in seeds.others)])
    choices = tuple(choose_at(results, other, policy) for other in seeds.others)
    sentences = [*_describe_spread(accuracies, networks, chosen), _describe_choices(choices, chosen)]
    return SeedComparison(accuracies, networks, choices, " ".join(sentences))


def choose_at(results: RunResults, other: SeedResult, policy: Policy) -> SeedChoice:
    """Choose with another seed's answers to the test rows; all other metrics are this run's.

    Times and sizes do not depend on the seed; calibration, robustness and labeled frames do, but they are measured with
    this run's alone.
    """
    candidates = []
    for candidate in metrics_of(results):
        if candidate.name in other.predicted_n:  # that run may have been exported in fewer precisions
            candidates.append(replace(candidate, predicted_n=other.predicted_n[candidate.name]))
    chosen = apply_rule(candidates, policy, results.noise.floor).chosen
    name = chosen.name if chosen else None
    return SeedChoice(other.run, other.seed, bool(candidates), name)


def spread_of(seeds: Sequence[Mapping[str, float]]) -> dict[str, Spread]:
    """Return the spread of each accuracy that more than one seed has."""
    found: dict[str, list[float]] = {}
    for seed in seeds:
        for name, value in seed.items():
            found.setdefault(name, []).append(value)
    spreads = {}
    for name, values in found.items():
        if len(values) > 1:  # one value has no standard deviation
            sd = float(np.std(values, ddof=1))
            spreads[name] = Spread(len(values), float(np.mean(values)), sd, tuple(values))
    return spreads


def _describe_spread(accuracy: dict[str, Spread], networks: dict[str, Spread], chosen: str | None) -> list[str]:
    arch = chosen.split()[0] if chosen else ""  # the first word of a candidate's name
    if spread := accuracy.get(chosen or ""):
        return [f"{chosen}: test accuracy {_plus_minus(spread)} over {spread.n} seeds (mean ± standard deviation)."]
    if spread := networks.get(arch):
        return [
            f"{arch} as trained: test accuracy {_plus_minus(spread)} over {spread.n} seeds (mean ± standard deviation)."
        ]
    return []


def _describe_choices(choices: Sequence[SeedChoice], chosen: str | None) -> str:
    """Return a sentence on whether the choice would hold for another seed."""
    exported = [choice for choice in choices if choice.exported]
    different = [choice for choice in exported if choice.chosen != chosen]
    if not exported:
        return "Whether the choice would hold for another seed was not measured: export those runs."
    if not different:
        seeds = "with the one other seed" if len(exported) == 1 else f"with each of {len(exported)} other seeds"
        return f"The choice holds for another seed: {seeds}, the rule chooses the same."
    wins = "; ".join(f"seed {o.seed}: {o.chosen or 'none'}" for o in different)
    held = f"the rule chooses the same in {len(exported) - len(different)} of {len(exported)} other seeds"
    return f"The choice may not hold for another seed: {held} ({wins})."


def _plus_minus(spread: Spread) -> str:
    return f"{100 * spread.mean:.1f} ± {100 * spread.sd:.1f}%"
