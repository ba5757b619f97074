"""Measure every bundle of a run, choose, and write the report and the production folder."""

from __future__ import annotations

import argparse
import json
import logging
import math
from dataclasses import replace
from pathlib import Path

from benchmarks.choose.policy import Policy, read_policy
from benchmarks.choose.production import write_production
from benchmarks.choose.sensitivity import describe_confidence
from benchmarks.measure.profiles import EFFORTS, Effort
from benchmarks.measure.seeds import judge_seeds
from benchmarks.measure.session import Request, add_age_of_chosen, measure
from benchmarks.report.examples import draw_rows, list_flipped, list_worst
from benchmarks.report.model_card import write_card
from benchmarks.report.render import write_report
from benchmarks.report.tables import as_table
from benchmarks.results import choose
from core.cli import Parser
from core.data.run_dir import open_run
from core.errors import CheckError, InputError
from core.redact import public_uri

log = logging.getLogger(__name__)


def main(arguments: list[str]) -> int:
    """Run `python -m benchmarks runs/NAME`. Raises CheckError when nothing fits the policy."""
    options = parse(arguments)
    policy = policy_of(options)
    run = open_run(options.run)
    results, field, pack = measure(run, request_of(options, policy))
    outcome = choose(results, policy)
    measured = {m.candidate.name: m for m in field.measured}
    if outcome.chosen:
        add_age_of_chosen(results, measured[outcome.chosen.name].candidate, effort_of(options))
    results["protocol"]["source"] = public_uri(results["protocol"]["source"])  # the last drive is done
    judge_seeds(results, policy)
    results["confidence"] = describe_confidence(results, [m.samples.frame_ms for m in field.measured], policy)
    shown = outcome.chosen or outcome.reference
    predictions = measured[shown.name].predictions if shown else None
    results["worst"] = list_worst(predictions, pack) if predictions else []
    results["flipped"] = list_flipped(results["ladder"], pack)
    report = run.path / "report" / "report.html"
    write_report(report.parent, [results], draw_rows([*results["worst"], *results["flipped"]], pack))
    if outcome.chosen is None:
        raise CheckError(f"{results['choice']['sentence']}; see {report}")
    chosen = measured[outcome.chosen.name]
    card, file = write_card(results, chosen.candidate), chosen.opened["file"]
    write_production(run.path / "production", chosen.candidate, results["choice"], card, measured=file)
    print(json.dumps(results["choice"], indent=1) if options.json else as_table(results))
    log.info(f"report: {report}")
    return 0


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("run", type=Path, help="runs/NAME")
    parser.add_argument("--policy", type=Path, metavar="FILE", help="policy.json; default: a 30 Hz rear camera")
    parser.add_argument("--budget-ms", type=float, help="budget of the p99 of a frame (33)")
    parser.add_argument("--margin", type=float, help="accuracy that a faster candidate may lose (0.01)")
    parser.add_argument("--source", metavar="URI", help="where the frames come from; default: the synthetic camera")
    parser.add_argument("--backends", nargs="+", help="default: all that can run here")
    parser.add_argument("--threads", type=int, nargs="+", help="default: each candidate's best, as measured here")
    parser.add_argument("--pack", type=Path, help="the pack, where it has moved")
    effort = parser.add_mutually_exclusive_group()
    samples = EFFORTS["long"].samples
    effort.add_argument("--long", action="store_true", help=f"{samples} samples a candidate, for p99.9")
    effort.add_argument("--thin", action="store_true", help="a demo's time: the report says what was cut")
    effort.add_argument("--quick", action="store_true", help="no paced run, no robustness: they say not measured")
    parser.add_argument("--strangers", type=Path, metavar="DIR", help="images of no class, that should be abstained on")
    parser.add_argument(
        "--seeds", type=Path, nargs="*", metavar="RUN", help="the same training with other seeds (those beside the run)"
    )
    parser.add_argument("--sustained", type=float, default=0.0, metavar="MINUTES", help="then load for so long (10-30)")
    parser.add_argument("--json", action="store_true", help="print choice.json instead of the table")
    return parser.parse_args(arguments)


def policy_of(options: argparse.Namespace) -> Policy:
    """Return the policy file's, or the default, with what the command line says over it."""
    policy = read_policy(options.policy) if options.policy else Policy()
    given = {"p99_ms": options.budget_ms, "margin": options.margin}
    return replace(policy, **{name: value for name, value in given.items() if value is not None})


def request_of(options: argparse.Namespace, policy: Policy) -> Request:
    """Return what is to be measured."""
    if not (math.isfinite(options.sustained) and options.sustained >= 0):
        raise InputError(f"--sustained is {options.sustained:g}: give minutes, such as 10")
    ages_of_all = policy.age_ms is not None or policy.objective == "age_ms"
    return Request(
        effort=effort_of(options),
        backends=options.backends,
        threads=options.threads and tuple(options.threads),
        source=options.source,
        pack=options.pack,
        strangers=options.strangers,
        ages_of_all=ages_of_all,
        sustained_min=options.sustained,
        seeds=options.seeds,
    )


def effort_of(options: argparse.Namespace) -> Effort:
    """Return the effort that the flags ask for, the whole without one."""
    return next((effort for name, effort in EFFORTS.items() if getattr(options, name, False)), EFFORTS["whole"])
