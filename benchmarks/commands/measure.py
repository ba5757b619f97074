"""Measure every bundle of a run, choose, and write the report and the production folder."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.candidates import Candidate, list_candidates, list_unmeasured, open_bundles, runnable
from benchmarks.choose import pareto
from benchmarks.confidence import describe_confidence
from benchmarks.drive import DEFAULT_SOURCE, measure_ages, measure_cold_start
from benchmarks.field import Field, measure_field
from benchmarks.frames import frames_of
from benchmarks.latency import SAMPLES, SAMPLES_LONG
from benchmarks.policy import Policy, read_policy
from benchmarks.production import write_production
from benchmarks.report import write_report
from benchmarks.results import choose, compare_precisions, describe_run, evidence_of
from benchmarks.robustness import measure_robustness
from benchmarks.statistics import summarise
from benchmarks.tables import as_table
from inference.commands import Parser
from inference.errors import CheckError, InputError
from inference.pack import Pack
from inference.runs import Run, open_run


def main(arguments: list[str]) -> int:
    """Run `python -m benchmarks runs/NAME`. Raises CheckError when nothing fits the policy."""
    options = parse(arguments)
    policy = policy_of(options)
    run = open_run(options.run)
    results, field = measure(run, options)
    outcome = choose(results, policy)
    results["confidence"] = describe_confidence(results, [m.samples.frame_ms for m in field.measured], policy)
    report = run.path / "report" / "report.html"
    write_report(report.parent, results)
    if outcome.chosen is None:
        raise CheckError(f"{results['choice']['sentence']}; see {report}")
    candidates = {m.candidate.name: m.candidate for m in field.measured}
    write_production(run.path / "production", candidates[outcome.chosen.name], results["choice"])
    print(json.dumps(results["choice"], indent=1) if options.json else as_table(results))
    print(f"report: {report}", file=sys.stderr)
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
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--pack", type=Path, help="the pack, where it has moved")
    parser.add_argument("--long", action="store_true", help=f"{SAMPLES_LONG} samples a candidate, for p99.9")
    parser.add_argument("--quick", action="store_true", help="no paced run, no robustness: they say not measured")
    parser.add_argument("--strangers", type=Path, metavar="DIR", help="images of no class, that should be abstained on")
    parser.add_argument("--json", action="store_true", help="print choice.json instead of the table")
    return parser.parse_args(arguments)


def policy_of(options: argparse.Namespace) -> Policy:
    """Return the policy file's, or the default, with what the command line says over it."""
    policy = read_policy(options.policy) if options.policy else Policy()
    given = {"p99_ms": options.budget_ms, "margin": options.margin}
    return replace(policy, **{name: value for name, value in given.items() if value is not None})


def measure(run: Run, options: argparse.Namespace) -> tuple[dict[str, Any], Field]:
    """Measure the run; return the results without the choice, and the field."""
    pack = run.open_pack(options.pack)
    bundles = open_bundles(run)
    backends = runnable(options.backends)
    candidates = list_candidates(bundles, backends, options.threads)
    if not candidates:
        raise InputError(f"no precision in the bundles of {run.path} runs on {', '.join(backends)}")
    samples = SAMPLES_LONG if options.long else SAMPLES
    frames = frames_of(options.source)
    field = measure_field(candidates, pack, frames, samples=samples)
    results = describe_run(run, pack, field, list_unmeasured(bundles, backends))
    results["protocol"]["source"] = options.source or DEFAULT_SOURCE
    compare_precisions(results)
    drive_candidates(results, [m.candidate for m in field.measured], options)
    if not options.quick:
        add_robustness(results, [m.candidate for m in field.measured], pack, options.strangers)
    return results, field


def add_robustness(results: dict[str, Any], candidates: list[Candidate], pack: Pack, strangers: Path | None) -> None:
    """Fill in the robustness of each architecture and precision, for every backend that runs it."""
    ms_of = {row["name"]: row["latency"]["engine_ms"]["p50"] for row in results["candidates"]}
    found = measure_robustness(candidates, ms_of, pack, strangers)
    for row in results["candidates"]:
        row["robustness"] = found.get((row["arch"], row["precision"]))


def drive_candidates(results: dict[str, Any], candidates: list[Candidate], options: argparse.Namespace) -> None:
    """Fill in cold starts and, of the Pareto candidates, ages; what the runner refuses is not selectable."""
    source = results["protocol"]["source"]
    rows = {row["name"]: row for row in results["candidates"]}
    by_name = {c.name: c for c in candidates}
    for name, row in rows.items():
        if not row["selectable"]:
            continue
        print(f"cold start: {name}", file=sys.stderr)
        try:
            row["cold_start_ms"] = measure_cold_start(by_name[name], source, 1 if options.quick else 3)
        except CheckError as error:
            row["selectable"], row["why_not"] = False, str(error)
    if options.quick:
        return
    for evidence in pareto([e for e in evidence_of(results) if not e.why_not]):
        print(f"paced run: {evidence.name}", file=sys.stderr)
        ages = measure_ages(by_name[evidence.name], source, SAMPLES)
        rows[evidence.name]["age_ms"] = summarise(ages)
