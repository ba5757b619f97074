"""Run a bundle on a camera, stream, video, folder, recording or the synthetic scene: decisions, overlay, summary."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from core.cli import Parser, options_for
from inference.runner.heartbeats import SINGLE_PROCESS, RunnerProcess
from inference.runner.supervisor import Supervisor, SupervisorLimits, is_camera


def read_arguments(arguments: list[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(
        prog="python -m inference run",
        times=True,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        # the options of all backends are told only where they are asked for: their modules take time to import
        epilog=_describe_options() if {"-h", "--help"} & set(arguments) else None,
    )
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="a bundle's folder, such as runs/NAME/production")
    parser.add_argument(
        "--source",
        required=True,
        metavar="URI",
        help="a camera, a stream, a video, a folder, a recording or the synthetic scene, see below",
    )
    _add_model(parser)
    parser.add_argument("--camera", type=Path, metavar="FILE", help="camera.json: zones and mounting")
    parser.add_argument(
        "--boxes",
        type=Path,
        metavar="FILE",
        help="boxes.jsonl or a pack: the regions of each frame; they are not smoothed",
    )
    parser.add_argument(
        "--detector", type=Path, metavar="FILE", help="an ONNX detector whose boxes, tracked, are the regions"
    )
    parser.add_argument(
        "--detector-backend", metavar="NAME", help="backend of the detector (default: that of the model)"
    )
    parser.add_argument(
        "--allow-unproved",
        action="store_true",
        help="report classes in fixed zones though the model has no background class; decisions are stamped",
    )
    parser.add_argument(
        "--smoothing", "--decision", type=Path, metavar="FILE", help="smoothing.json: smooth_ms, margin, hold_ms, ..."
    )
    parser.add_argument("--frames", type=int, metavar="N", help="stop after N frames")
    parser.add_argument("--realtime", action="store_true", help="play a recorded source at its own rate, with drops")
    _add_outputs(parser)
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    parser.add_argument(
        "--supervise",
        action=argparse.BooleanOptionalAction,
        help="start the runner again when it dies or hangs (default: for cameras only)",
    )
    return parser.parse_args(arguments)


def _add_model(parser: Parser) -> None:
    """Add the options that choose the model file and the backend that runs it."""
    parser.add_argument(
        "--backend", metavar="NAME", help="backend of the model (default: the production choice, else ort)"
    )
    parser.add_argument(
        "--precision",
        metavar="NAME",
        help="precision of the model file (default: the production choice, else int8, fp32 or fp16, the first to pass)",
    )
    parser.add_argument(
        "--threads",
        type=int,
        metavar="N",
        help="thread count (default: as benchmarked on this machine; on another, all cores)",
    )
    parser.add_argument(
        "--backend-option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of the backend, see below",
    )


def _describe_options() -> str:
    # these import the backends and OpenCV, which a supervisor does not need
    from inference.backends import option_help
    from inference.sources import GRAMMAR

    return f"URI of --source: {GRAMMAR}\n\noptions of the backends, with their defaults:\n{option_help()}"


def _add_outputs(parser: Parser) -> None:
    """Add the options that say what a run leaves."""
    add = parser.add_argument
    add("--out", type=Path, metavar="DIR", help="receives decisions.jsonl, overlay.mp4, summary.json")
    add("--overwrite", action="store_true", help="replace an earlier run in DIR (default: keep it in DIR/earlier-N)")
    add("--no-overlay", action="store_true", help="write no overlay.mp4")
    add(
        "--web",
        metavar="[HOST:]PORT",
        help="serve the web page, state.json and metrics (HOST is 127.0.0.1 unless given)",
    )
    add("--web-token", metavar="TOKEN", help="required to open the page: /?token=TOKEN")
    add("--record", type=Path, metavar="DIR", help="record frames and decisions for replay://DIR")
    add(
        "--record-mb", type=int, default=2000, metavar="N", help="keep the newest N MB of the recording (default: 2000)"
    )
    add("--record-lossless", action="store_true", help="record PNG instead of JPEG")


def main(arguments: list[str]) -> int | None:
    """Run, under a supervisor where the source is a camera; print the summary."""
    args = read_arguments(arguments)
    camera = is_camera(args.source)
    # a recorded source would begin anew with each worker, so it is supervised only on request
    if not (camera if args.supervise is None else args.supervise):
        run_worker(args, SINGLE_PROCESS)
        return None
    # a recorded source waits for a slow sink, without a heartbeat: that is not a hang
    limits = SupervisorLimits() if camera or args.realtime else SupervisorLimits(hang_s=SupervisorLimits.ending_s)
    journal = args.out / "decisions.jsonl" if args.out else None
    return Supervisor(lambda process: run_worker(args, process), limits, journal).run()


def run_worker(args: argparse.Namespace, process: RunnerProcess) -> None:
    """Run a session in this process; print its summary."""
    summary = run_from_args(args, process)
    print(json.dumps(summary, indent=1) if args.json else describe(summary))


def run_from_args(args: argparse.Namespace, process: RunnerProcess = SINGLE_PROCESS) -> dict[str, Any]:
    """Run a session; return its summary. Heavy packages are imported here, so that a supervisor does without them."""
    from inference.runner import session

    config = session.SessionConfig(**options_for(session.SessionConfig, args), sink_options=vars(args))
    return session.run_session(config, process)


def describe(summary: dict[str, Any]) -> str:
    """Return the summary as a few lines for people."""
    backend = summary["backend"]
    accuracy = summary["accuracy"]
    stamps = f"  [{', '.join(summary['stamps'])}]" if summary["stamps"] else ""
    most_first = sorted(summary["said"].items(), key=lambda item: -item[1])
    skipped = summary["source_report"].get("skipped", 0)
    count = len(skipped) if isinstance(skipped, dict) else skipped  # a folder names each picture
    damaged = f"  damaged and skipped {count}" if count else ""
    said = "  ".join(f"{name} {n}" for name, n in most_first)
    lines = [
        f"{summary['bundle']['arch']} {backend['precision']} on {backend['backend']} x{backend['threads']}{stamps}",
        f"frames      {summary['frames']}  drops {summary['drops']}{damaged}",
        f"said        {said}",
        f"age         {_percentiles(summary['age_ms'])} since {' or '.join(summary['age_basis'])}",
    ]
    lines += [f"{name:11} {_percentiles(series)}" for name, series in summary["stages_ms"].items()]
    # only a labeled source tells what would have been right
    if accuracy:
        lines.append(
            f"accuracy    {accuracy['raw']:.1%} of {accuracy['regions']} regions; a class was said of "
            f"{accuracy['said']:.1%} of them"
            + (f", {accuracy['right_of_said']:.1%} of those right" if accuracy["right_of_said"] is not None else "")
        )
    tested = summary["self_test"]
    passed = f"passed in {tested['ms']:.1f} ms" if tested["passed"] else f"none: {tested['why']}"
    lines.append(f"self-test   {passed}")
    lines.append(f"cold start  {summary['cold_start_ms']:.0f} ms from process start to the first decision")
    lines.append(f"memory      {summary['resident_mb']:.0f} MB resident")
    return "\n".join(lines)


def _percentiles(series: dict[str, float]) -> str:
    return f"p50 {series['p50']:.2f}  p90 {series['p90']:.2f}  p99 {series['p99']:.2f}  max {series['max']:.2f} ms"
