"""Measure bundles on labeled frames: objects found and named, and false alarms where nothing is."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.measure.candidates import open_bundles
from benchmarks.measure.frames_accuracy import FramesAccuracy, labeled_boxes, score_frames, summarize
from benchmarks.measure.measured_set import show_progress
from benchmarks.report.frames_table import as_markdown
from core.bundle.contract import Bundle, open_bundle
from core.cli import Parser
from core.data.frames import LabeledFrame, read_frames
from core.data.pack import SPLITS, Pack, open_pack
from core.data.run_dir import open_run
from core.errors import InputError
from core.files import write_json
from core.geometry.camera_config import read_camera
from core.synthetic import ZONES
from inference.backends import open_backend
from inference.frame.processor import FrameConfig, FrameProcessor
from inference.frame.regions import RegionSource, Zones, whole_frame
from inference.runner.selection import pick_backend_and_precision

log = logging.getLogger(__name__)

MARGIN = 0.1
"""Context around a labeled box, as `python -m training pack` cuts it by default."""


@dataclass(frozen=True)
class Request:
    """What is measured, and how the bundles are opened."""

    bundles: dict[str, Bundle]
    pack: Pack
    split: str
    camera: Path | None
    labeled: bool
    """Take the labeled boxes as regions."""
    backend: str | None
    precision: str | None
    threads: int | None


def main(arguments: list[str]) -> None:
    """Run `python -m benchmarks frames`; print a table, or JSON."""
    parser = Parser(prog="python -m benchmarks frames", description=__doc__)
    parser.add_argument("run", type=Path, help="runs/NAME, all its bundles, or one bundle's folder")
    parser.add_argument("--frames-of", type=Path, metavar="PACK", help="a pack with labeled frames (the run's own)")
    parser.add_argument("--split", choices=SPLITS[:3], default="test", help="default: test")
    regions = parser.add_mutually_exclusive_group()
    regions.add_argument("--camera", type=Path, metavar="FILE", help="camera.json: the zones that are classified")
    regions.add_argument(
        "--labeled-boxes", action="store_true", help="classify the labeled boxes, as of a perfect detector"
    )
    parser.add_argument("--backend", help="default: the production choice, else ort")
    parser.add_argument("--precision", help="default: the production choice, else int8 if its gates hold, else fp32")
    parser.add_argument("--threads", type=int, help="default: all cores")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the results as JSON")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    args = parser.parse_args(arguments)
    single = (args.run / "bundle.json").is_file()
    if single and not args.frames_of:
        raise InputError(f"{args.run} is a bundle, which holds no pack: name one with --frames-of")
    run = None if single else open_run(args.run)
    bundles = open_bundles(run) if run else {args.run.name: open_bundle(args.run)}
    pack = open_pack(args.frames_of) if args.frames_of or run is None else run.open_pack()
    request = Request(
        bundles, pack, args.split, args.camera, args.labeled_boxes, args.backend, args.precision, args.threads
    )
    results = measure_frames(request)
    body = {name: asdict(one) for name, one in results.items()}
    if args.out:
        write_json(args.out, body)
    print(json.dumps(body, indent=1) if args.json else as_markdown(results))


def measure_frames(request: Request) -> dict[str, FramesAccuracy]:
    """Return the accuracy on frames of each bundle, all with the same regions."""
    frames = read_frames(request.pack, request.split)
    if not frames:
        raise InputError(f"{request.pack.path} has no labeled frame in {request.split}: choose another --split")
    what, regions = pick_regions(request, frames)
    results = {}
    for arch, bundle in request.bundles.items():
        if missing := set(bundle.classes) ^ set(request.pack.classes):
            log.warning(
                f"{arch} and {request.pack.path} differ in {', '.join(sorted(missing))}: none of these is right"
            )
        name, precision = pick_backend_and_precision(bundle, request.backend, request.precision)
        with open_backend(name, bundle, precision, batch=regions.most, threads=request.threads) as backend:
            processor = FrameProcessor(bundle, backend, regions, FrameConfig(sequence=False))
            progress = show_progress(f"frames: {arch} {precision}")
            scores = list(score_frames(processor, request.pack, frames, bundle.background, progress))
        results[f"{arch} {precision}"] = summarize(request.split, what, scores)
    return results


def pick_regions(request: Request, frames: Sequence[LabeledFrame]) -> tuple[str, RegionSource]:
    """Return a name and the regions: labeled boxes, the zones of camera.json or of the synthetic camera, or all."""
    if request.labeled:
        return "labeled boxes", labeled_boxes(frames, MARGIN)
    if request.camera:
        zones = read_camera(request.camera).zones
        if not zones:
            raise InputError(f"{request.camera} has no zones: name the rectangles that are classified")
        return f"zones of {request.camera.name}", Zones(zones)
    return ("zones of the synthetic camera", Zones(ZONES)) if request.pack.synthetic else ("frame", whole_frame())
