"""Measure bundles on labeled frames: the objects named rightly, and false alarms in empty regions."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from benchmarks.measure.candidates import Candidate, open_bundles
from benchmarks.measure.frames.frame_accuracy import measure_frames
from benchmarks.report.frames_tables import format_frames
from benchmarks.results.candidate import NotMeasured
from core.bundle.contract import open_bundle
from core.cli import Parser, options_for
from core.codec import to_json
from core.data.pack import SPLITS, open_pack
from core.data.run_dir import open_run
from core.errors import InputError
from core.files import write_json
from core.machine import cores
from inference.runner.labeled_regions import FramesRequest
from inference.runner.selection import pick_backend_and_precision


def main(arguments: list[str]) -> None:
    """Run `python -m benchmarks frames`; print a table, or JSON."""
    args = parse(arguments)
    # a bundle may come from elsewhere, without the run that made it
    single = (args.run / "bundle.json").is_file()
    if single and not args.frames_of:
        raise InputError(f"{args.run} is a bundle, which holds no pack: name one with --frames-of")
    run = None if single else open_run(args.run)
    bundles = open_bundles(run) if run else {args.run.name: open_bundle(args.run)}
    pack = open_pack(args.frames_of) if args.frames_of or run is None else run.open_pack()
    candidates = []
    for arch, bundle in bundles.items():
        backend, precision = pick_backend_and_precision(bundle, args.backend, args.precision)
        candidates.append(Candidate(arch, precision, backend, args.threads or cores(), bundle))
    request = FramesRequest(**options_for(FramesRequest, args))
    found = measure_frames(candidates, pack, request)
    # one that is refused would leave a table that is not what was asked for
    results = {}
    for key, accuracy in found.items():
        if isinstance(accuracy, NotMeasured):
            raise InputError(accuracy.not_measured)
        results[" ".join(key)] = accuracy
    if args.out:
        write_json(args.out, to_json(results))  # before it is printed: a closed pipe must not cost the file
    print(json.dumps(to_json(results), indent=1) if args.json else format_frames(results))


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(prog="python -m benchmarks frames", description=__doc__)
    parser.add_argument("run", type=Path, metavar="RUN", help="the folder of a run, runs/NAME, or of one bundle")
    parser.add_argument(
        "--frames-of", type=Path, metavar="PACK", help="a pack with labeled frames (default: the run's own)"
    )
    parser.add_argument("--split", choices=SPLITS[:3], default="test", help="the split of the frames (default: test)")
    parser.add_argument(
        "--detector",
        type=Path,
        metavar="FILE",
        help="an ONNX detector whose boxes are classified (default: the bundle's)",
    )
    regions = parser.add_mutually_exclusive_group()
    regions.add_argument("--camera", type=Path, metavar="FILE", help="camera.json: the zones, or a detector's settings")
    regions.add_argument("--labeled-boxes", dest="labeled", action="store_true", help="classify the labeled boxes")
    parser.add_argument(
        "--jitter",
        type=float,
        default=0.0,
        metavar="FRACTION",
        help="move the edges of labeled boxes at random, by this fraction of a side (default: 0)",
    )
    parser.add_argument(
        "--backend", metavar="NAME", help="backend of the model (default: the production choice, else ort)"
    )
    parser.add_argument(
        "--precision",
        metavar="NAME",
        help="precision of the model file (default: the production choice, else int8, fp32 or fp16, the first to pass)",
    )
    parser.add_argument("--threads", type=int, metavar="N", help="thread count (default: all cores)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the results as JSON")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    return parser.parse_args(arguments)
