"""Measure every bundle of a run, choose, and write the report and the production folder.

The choice is made in a loop with the last measurement: the ages of frames, in runs at the camera's rate, are measured
only for the candidates that the choice so far makes interesting, and the choice is made again with them.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
from dataclasses import replace
from pathlib import Path

from benchmarks.choose.choice import ChoiceResult, choose
from benchmarks.choose.policy import Policy, read_policy
from benchmarks.choose.production import write_production
from benchmarks.measure.measured_run import Request, measure_frame_ages, measure_run
from benchmarks.measure.profiles import PROFILES, Profile
from benchmarks.report.render import render, render_card
from benchmarks.report.results_file import DeviceReport
from benchmarks.report.tables import results_table
from benchmarks.results.candidate import NotMeasured
from benchmarks.results.run import RunResults
from core.bundle.contract import open_bundle
from core.cli import Parser, options_for
from core.codec import to_json
from core.data.pack import open_pack
from core.data.run_dir import Run, open_run
from core.errors import CheckError, InputError
from core.locks import locked

log = logging.getLogger(__name__)


def main(arguments: list[str]) -> int:
    """Run `python -m benchmarks runs/NAME`. Raises CheckError when no candidate meets the policy."""
    args = parse(arguments)
    policy, request = policy_of(args), request_of(args)
    run = open_run(args.run)
    policy.check_classes(run.open_pack(request.pack).classes)
    # the bundles too: one that is replaced meanwhile is not the one that was measured
    with locked(run.path / "production", run.path / "report", *run.bundles().values()):
        results, choice = _measure_and_write(run, request, policy)
    print(json.dumps(to_json(choice), indent=1) if args.json else results_table(results, choice))
    log.info(f"report: {_report(run)}")
    return 0


def _measure_and_write(run: Run, request: Request, policy: Policy) -> tuple[RunResults, ChoiceResult]:
    """Measure, write the report, choose, and write production/. Raises CheckError when nothing can be chosen."""
    results, choice = measure_and_choose(run, request, policy)
    device = DeviceReport(results, choice)
    frames_of = open_pack(request.frames_of) if request.frames_of else None
    # the report first: where nothing can be chosen it shows why
    render(_report(run).parent, [device], run.open_pack(request.pack), frames_of)
    if choice.chosen is None or choice.production is None:
        raise CheckError(f"{choice.sentence}; see {_report(run)}")
    row = results.by_name[choice.chosen]
    bundle = open_bundle(run.bundles()[row.arch])
    production = run.path / "production"
    documents = {
        "choice.json": json.dumps(to_json(choice), indent=1) + "\n",
        "MODEL_CARD.md": render_card(device, bundle, production),
    }
    write_production(production, bundle, choice.production, str(row.opened["file"]), documents)
    return results, choice


def _report(run: Run) -> Path:
    return run.path / "report" / "report.html"


def measure_and_choose(run: Run, request: Request, policy: Policy) -> tuple[RunResults, ChoiceResult]:
    """Measure and choose; then measure the frame ages that the choice needs, and choose again, until none is missing.

    A paced run takes as long as its frames at the camera's rate. So only the Pareto front and the winner get one,
    unless the policy limits ages. If the runner refuses the winner in its paced run, the next winner needs one, too.
    """
    results = measure_run(run, request)
    choice = choose(results, policy)
    # each pass measures ages that were missing, so the loop ends at the latest when none is
    while request.profile.paced_frames and (names := names_without_ages(results, choice)):
        results = measure_frame_ages(run, results, names, request)
        choice = choose(results, policy)
    return results, choice


def names_without_ages(results: RunResults, choice: ChoiceResult) -> set[str]:
    """Return the names of the candidates whose frame ages are needed and not yet measured."""
    selectable = [row for row in results.candidates if row.selectable]
    missing = {row.name for row in selectable if isinstance(row.age_ms, NotMeasured)}
    return missing if choice.policy.needs_ages else missing & {*choice.front, choice.chosen}


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("run", type=Path, metavar="RUN", help="the folder of a run, runs/NAME")
    parser.add_argument(
        "--policy", type=Path, metavar="FILE", help="policy.json (default: limits for a 30 Hz rear camera)"
    )
    parser.add_argument(
        "--budget-ms", type=float, metavar="MS", help="upper limit of a frame's p99 in ms (default: 33)"
    )
    parser.add_argument(
        "--margin", type=float, metavar="FRACTION", help="accuracy that a faster candidate may lose (default: 0.01)"
    )
    parser.add_argument(
        "--source",
        metavar="URI",
        help="source of the frames to time (default: the golden frames of the bundles' detector, else synthetic ones)",
    )
    parser.add_argument(
        "--backends", nargs="+", metavar="NAME", help="backends to measure (default: all that can run here)"
    )
    parser.add_argument(
        "--threads", type=int, nargs="+", metavar="N", help="thread counts (default: the best count of each candidate)"
    )
    parser.add_argument("--pack", type=Path, help="the folder of the pack, if it has moved")
    profile = parser.add_mutually_exclusive_group()
    samples = PROFILES["long"].samples
    profile.add_argument("--long", action="store_true", help=f"{samples} samples of each candidate, for p99.9")
    profile.add_argument("--demo", action="store_true", help="a short measurement; the report says what is left out")
    profile.add_argument("--quick", action="store_true", help="accuracy, latency and one cold start only")
    parser.add_argument(
        "--ood",
        type=Path,
        metavar="DIR",
        help="images that show none of the classes, on which the model should abstain",
    )
    parser.add_argument(
        "--frames-of", type=Path, metavar="PACK", help="a pack with labeled frames (default: the run's own)"
    )
    parser.add_argument("--camera", type=Path, metavar="FILE", help="camera.json: the regions to time and to measure")
    parser.add_argument(
        "--seeds",
        type=Path,
        nargs="*",
        metavar="RUN",
        help="runs that differ from this one in the seed alone (default: those in the same folder)",
    )
    parser.add_argument(
        "--sustained",
        type=float,
        default=0.0,
        metavar="MINUTES",
        help="minutes of sustained load at the end (default: 0)",
    )
    parser.add_argument("--json", action="store_true", help="print choice.json instead of the table")
    return parser.parse_args(arguments)


def policy_of(args: argparse.Namespace) -> Policy:
    """Return the policy of the file, or else the default, with the limits of the command line."""
    policy = read_policy(args.policy) if args.policy else Policy()
    # the command line goes before the file, as the more specific wish
    named = {"p99_ms": args.budget_ms, "margin": args.margin}
    return replace(policy, **{name: value for name, value in named.items() if value is not None})


def request_of(args: argparse.Namespace) -> Request:
    """Return the options of the measurement from the command line."""
    # float() reads nan and inf, which argparse takes for numbers
    if not (math.isfinite(args.sustained) and args.sustained >= 0):
        raise InputError(f"--sustained is {args.sustained:g}: give minutes, such as 10")
    options = options_for(Request, args) | {"threads": args.threads and tuple(args.threads)}
    return Request(profile=profile_of(args), sustained_min=args.sustained, **options)


def profile_of(args: argparse.Namespace) -> Profile:
    """Return the profile that a flag names, or else the full one; every profile measures frames that are named."""
    profile = next((profile for name, profile in PROFILES.items() if getattr(args, name, False)), PROFILES["full"])
    if args.frames_of and not profile.labeled_frames:
        return replace(profile, labeled_frames=PROFILES["full"].labeled_frames)
    return profile
