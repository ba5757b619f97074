"""Measure every bundle of a run, choose, and write the report and the production folder."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.candidates import Candidate, list_candidates, list_unmeasured, open_bundles, runnable
from benchmarks.choose import Policy, choose
from benchmarks.field import measure_field
from benchmarks.frames import synthetic_frames
from benchmarks.latency import SAMPLES, SAMPLES_LONG
from benchmarks.production import write_production
from benchmarks.report import as_ms, as_percent, write_report
from benchmarks.results import choice_as_json, collect, evidence_of
from inference.errors import CheckError, InputError
from inference.runs import Run, open_run


def main(arguments: list[str]) -> int:
    """Run `python -m benchmarks runs/NAME`. Raises CheckError when nothing fits the budget."""
    options = parse(arguments)
    policy = Policy(p99_ms=options.budget_ms, margin=options.margin)
    run = open_run(options.run)
    results, candidates = measure(run, options, policy)
    results["choice"] = choice_as_json(choose(evidence_of(results), policy, results["noise"]["floor"]), results)
    chosen = candidates.get(results["choice"]["chosen"])
    write_report(run.path / "report", results)
    if chosen is None:
        raise CheckError(f"{results['choice']['sentence']}; see {run.path / 'report' / 'report.html'}")
    write_production(run.path / "production", chosen, results["choice"])
    print(json.dumps(results["choice"], indent=1) if options.json else as_table(results))
    print(f"report: {run.path / 'report' / 'report.html'}", file=sys.stderr)
    return 0


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("run", type=Path, help="runs/NAME")
    parser.add_argument("--budget-ms", type=float, default=Policy.p99_ms, help="budget of the p99 of a frame")
    parser.add_argument("--margin", type=float, default=Policy.margin, help="accuracy a faster one may lose (0.01)")
    parser.add_argument("--source", help="where the frames for latency come from; default: the synthetic camera")
    parser.add_argument("--backends", nargs="+", help="default: all that can run here")
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--pack", type=Path, help="the pack, where it has moved")
    parser.add_argument("--long", action="store_true", help=f"{SAMPLES_LONG} samples a candidate, for p99.9")
    parser.add_argument("--json", action="store_true", help="print choice.json instead of the table")
    return parser.parse_args(arguments)


def measure(run: Run, options: argparse.Namespace, policy: Policy) -> tuple[dict[str, Any], dict[str, Candidate]]:
    """Measure the run; return the results without the choice, and the candidates by name."""
    pack = run.open_pack(options.pack)
    bundles = open_bundles(run)
    backends = runnable(options.backends)
    candidates = list_candidates(bundles, backends, options.threads)
    if not candidates:
        raise InputError(f"no precision in the bundles of {run.path} runs on {', '.join(backends)}")
    samples = SAMPLES_LONG if options.long else SAMPLES
    measured, noise = measure_field(candidates, pack, synthetic_frames(), samples=samples)
    results = collect(run, pack, measured, list_unmeasured(bundles, backends), noise, policy)
    return results, {c.name: c for c in candidates}


def as_table(results: dict[str, Any]) -> str:
    """Return the result for a terminal."""
    choice = results["choice"]
    lines = ["synthetic data"] if results["synthetic"] else []
    lines.append(f"{'candidate':42} {'accuracy %':>18} {'p50 ms':>8} {'p99 ms':>8} {'cold ms':>8}  verdict")
    for row, verdict in zip(results["candidates"], choice["candidates"], strict=True):
        frame, accuracy = row["latency"]["frame_ms"], row["accuracy"]
        said = "not measured"
        if accuracy:
            low, high = accuracy["interval"]
            said = f"{as_percent(accuracy['top1'])} ({as_percent(low)}-{as_percent(high)})"
        cold = "-" if row.get("cold_start_ms") is None else as_ms(row["cold_start_ms"])
        lines.append(
            f"{row['name']:42} {said:>18} {as_ms(frame['p50']):>8} {as_ms(frame['p99']):>8} {cold:>8}  {verdict['role']}"
        )
    lines += [
        f"{r['arch']} {r['precision']} {r['backend']}: not measured ({r['reason']})" for r in results["unmeasured"]
    ]
    noise = results["noise"]
    verdict = "these two are the same" if noise["aa_same"] else "these two were NOT found to be the same: noisy"
    lines.append(f"A/A pair: {verdict}; noise floor {as_percent(noise['floor'])}%{', noisy' if noise['noisy'] else ''}")
    return "\n".join([*lines, choice["sentence"]])
