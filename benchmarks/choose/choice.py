"""Choose from the results of a run: which candidate goes to production, and why each other one does not."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.choose.candidate_metrics import CandidateMetrics, metrics_of
from benchmarks.choose.explain import describe_choice, explain, explain_rule, role
from benchmarks.choose.policy import Policy
from benchmarks.choose.rule import Loss, apply_rule, pareto
from benchmarks.choose.seed_comparison import SeedComparison, compare_seeds
from benchmarks.choose.sensitivity import Sensitivity, measure_sensitivity
from benchmarks.results.candidate import NotMeasured
from benchmarks.results.run import RunResults, Seeds
from core.bundle.production_choice import Machine, ProductionChoice
from core.stats import PairCounts, count_pairs, mcnemar_p

SCHEMA = 2
"""The schema of choice.json."""


@dataclass(frozen=True)
class McNemarTest:
    """McNemar's test of two candidates on the same rows."""

    pairs: PairCounts
    mcnemar_p: float


@dataclass(frozen=True)
class CandidateVerdict:
    """The role of one candidate in the choice, and the reason."""

    name: str
    role: str
    """chosen; reference; not chosen, within all limits; or rejected: a limit is broken, or it cannot be selected."""
    why: str
    """The reason for the role."""
    accuracy: float | None
    p50_ms: float | None
    p99_ms: float | None
    loss: Loss | None
    """Against the reference; None for the reference itself, and where there is none."""
    against_chosen: McNemarTest | None
    """None for the chosen one, and where one of the two has no answers."""


@dataclass(frozen=True)
class ChoiceResult:
    """choice.json: the candidate that goes to production, and why."""

    schema: int
    run: str
    made_at: str
    synthetic: bool
    device: str
    policy: Policy
    rule: str
    """A description of the rule with this policy."""
    sentence: str
    """The choice in a sentence."""
    chosen: str | None
    """None where no candidate meets the policy."""
    reference: str | None
    production: ProductionChoice | None
    """The part of the choice that bundle.json holds for the runner."""
    front: tuple[str, ...]
    """Selectable candidates that no other beats in both accuracy and median time, the fastest first."""
    candidates: tuple[CandidateVerdict, ...]
    sensitivity: Sensitivity
    seeds: SeedComparison | NotMeasured


def choose(results: RunResults, policy: Policy) -> ChoiceResult:
    """Choose from the results of a run by a policy."""
    candidates = metrics_of(results)
    floor = results.noise.floor
    # one ranking for all sentences, so that the winner, the roles and the reasons cannot disagree
    ranking = apply_rule(candidates, policy, floor)
    chosen, reference = ranking.chosen, ranking.reference
    verdicts = [
        CandidateVerdict(
            name=c.name,
            role=role(c, ranking),
            why=explain(c, ranking, policy),
            accuracy=c.metric("accuracy") if _is_answered(c) else None,
            p50_ms=c.metric("p50_ms"),
            p99_ms=c.metric("p99_ms"),
            loss=ranking.losses.get(c.name) if _is_answered(c) else None,
            against_chosen=compare_with_chosen(chosen, c),
        )
        for c in candidates
    ]
    name = chosen.name if chosen else None
    seeds = results.seeds
    return ChoiceResult(
        schema=SCHEMA,
        run=results.run,
        made_at=results.made_at,
        synthetic=results.synthetic,
        device=results.machine.name,
        policy=policy,
        rule=explain_rule(policy),
        sentence=describe_choice(ranking, candidates, policy, noisy=results.noise.noisy),
        chosen=name,
        reference=reference.name if reference else None,
        production=production_of(results, name) if name else None,
        # whatever the policy says: the front shows what another policy could choose
        front=tuple(c.name for c in pareto([c for c in candidates if not c.why_not])),
        candidates=tuple(verdicts),
        sensitivity=measure_sensitivity(candidates, [r.latency.rounds_ms for r in results.candidates], policy, floor),
        seeds=compare_seeds(results, seeds, policy, name) if isinstance(seeds, Seeds) else seeds,
    )


def compare_with_chosen(chosen: CandidateMetrics | None, rival: CandidateMetrics) -> McNemarTest | None:
    """Return McNemar's test of a rival against the chosen one; None for the chosen one, or where one has no answers."""
    if chosen is None or rival is chosen or not _is_answered(rival):
        return None
    # shown for comparison alone: no test of difference can show that two candidates are equally good
    pairs = count_pairs(chosen.correct_n, rival.correct_n)
    return McNemarTest(pairs, mcnemar_p(pairs))


def production_of(results: RunResults, name: str) -> ProductionChoice:
    """Return the precision, backend and thread count of a candidate, with the machine that they were measured on."""
    row, machine = results.by_name[name], results.machine
    return ProductionChoice(row.precision, row.backend, row.threads, Machine(machine.cpu, machine.cores))


def _is_answered(candidate: CandidateMetrics) -> bool:
    return bool((candidate.predicted_n >= 0).all())  # -1 stands for no answer
