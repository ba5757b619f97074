"""Export the best checkpoint of each architecture of a run as a verified bundle, with its engines."""

from __future__ import annotations

import argparse
import json
import logging
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import models
from core.bundle.contract import PRECISIONS, open_bundle
from core.bundle.engine_manifest import OF_DETECTOR
from core.cli import Parser
from core.codec import to_json
from core.data.pack import Pack, open_pack
from core.data.run_dir import Run, folder_name, open_run
from core.errors import CheckError, InputError
from core.files import replacing_folder, write_text
from core.locks import locked
from export.abstain_threshold import fit_on_frames
from export.assemble import add_fp16, add_fp32, add_int8, add_or_refuse, begin_bundle, check_agreement
from export.builder import BundleBuilder
from export.bundle_detector import keep_detector, keeps_detector, prove_detector
from export.engines import RTX, Target, build_engines, choose_targets
from export.precision_report import as_markdown
from export.production import warn_of_earlier_choice
from export.seal import prove_and_seal
from export.verify.parity import first_failure
from inference.backends import trt
from inference.backends.trt import BuildOptions
from inference.backends.trt.runtimes import RTX_TARGETS, RUNTIMES, choose_target
from inference.runner.labeled_regions import FramesRequest
from models.checkpoint import Checkpoint, CheckpointMetadata, load_checkpoint

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExportOptions:
    """The options of an export, from the command line."""

    precisions: tuple[str, ...]
    targets: tuple[Target, ...]
    """What engines are built for."""
    size_px: int | None
    build: BuildOptions = field(default_factory=BuildOptions)
    abstain_on: FramesRequest | None = None
    """The labeled frames on which the abstain threshold is fitted; None: it stays as training chose it, on crops."""


def main(arguments: list[str]) -> int:
    """Export a run; return 1 when a check failed."""
    args = _parser().parse_args(arguments)
    # fp32 is always among them: the other precisions are made from its graph
    wanted = {"fp32", *(args.precisions or PRECISIONS)}
    precisions = tuple(precision for precision in PRECISIONS if precision in wanted)
    build_options = BuildOptions(tuple(args.batch)) if args.batch else BuildOptions()
    targets = tuple(choose_targets(args.engines, args.sm or ()))
    _refuse_unused(args, targets)
    options = ExportOptions(
        precisions=precisions,
        targets=targets,
        size_px=args.size,
        build=build_options,
        abstain_on=_threshold_frames(args),
    )
    run = open_run(args.run)
    checkpoints = _checkpoints(run, args.models, args.unfinished)
    if args.dry_run:
        items = [item for path in checkpoints.values() for item in _plan(path, options)]
        lines = [f"{item['arch']:24} {item['what']:32} -> {item['target']}" for item in items]
        print(json.dumps(items, indent=1) if args.json else "\n".join([*lines, "nothing was made"]))
        return 0
    pack = run.open_pack(args.pack)
    # before the first conversion, which takes minutes: a pack without frames or a wrong target is told at once
    if request := options.abstain_on:
        request.frames(open_pack(request.pack) if request.pack else pack)
    for runtime, sm in options.targets:
        choose_target(runtime, sm)
    with locked(*(_bundle_folder(path, load_checkpoint(path).metadata, options) for path in checkpoints.values())):
        results = [_export(path, pack, options) for path in checkpoints.values()]
    report = as_markdown(results)
    print(json.dumps(results, indent=1) if args.json else report)
    if args.table:
        write_text(args.table, report)
    for result in results:
        for sentence in result["failed"]:
            log.error(f"failed: {sentence}")
    # a bundle of another size is for latency alone, and none is chosen
    selectable = {str(folder) for folder in run.bundles().values()}
    if any(result["bundle"] in selectable for result in results):
        warn_of_earlier_choice(run, "holds the earlier choice")
    return 1 if any(result["failed"] for result in results) else 0


def _parser() -> Parser:
    parser = Parser(prog="python -m export", description=__doc__)
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="the folder of a run, runs/NAME")
    add("--precisions", nargs="+", choices=PRECISIONS, help="precisions to export besides fp32 (default: all)")
    add(
        "--engines", nargs="*", choices=RUNTIMES,
        help="runtimes to build engines for, none without a name (default: for this machine's device, or --sm)",
    )  # fmt: skip
    add("--sm", nargs="+", type=int, help=f"targets of tensorrt_rtx engines, built without the device: {RTX_TARGETS}")
    add("--size", type=int, metavar="N", help="export another input size into bundle_N, for latency measurements only")
    add("--pack", type=Path, help="the pack that the run was trained on, if it was moved")
    add("--models", nargs="+", metavar="ARCH", help="export only these architectures")
    add(
        "--batch",
        nargs="+",
        type=int,
        help=f"batch sizes of an engine (default: {' '.join(map(str, BuildOptions.batches))})",
    )
    add("--abstain-on-frames", action="store_true", help="fit the abstain threshold on the val frames of a pack")
    add(
        "--frames-of",
        type=Path,
        metavar="PACK",
        help="with --abstain-on-frames: a pack with labeled frames (default: the run's own)",
    )
    add(
        "--camera",
        type=Path,
        metavar="FILE",
        help="with --abstain-on-frames: camera.json, the zones or a detector's settings",
    )
    add(
        "--detector",
        type=Path,
        metavar="FILE",
        help="with --abstain-on-frames: a detector (default: the bundle's, else the pack's zones, else labeled boxes)",
    )
    add(
        "--jitter",
        type=float,
        default=0.0,
        metavar="FRACTION",
        help="with --abstain-on-frames: move the edges of labeled boxes by this fraction of a side (default: 0)",
    )
    add("--unfinished", action="store_true", help="export the best checkpoint so far of an unfinished training")
    add("--dry-run", action="store_true", help="print what would be made, and make nothing")
    add("--table", type=Path, metavar="FILE", help="also write the report into this Markdown file")
    add("--json", action="store_true", help="print the report as JSON")
    return parser


def _refuse_unused(args: argparse.Namespace, targets: tuple[Target, ...]) -> None:
    """Refuse options of engines where none is built that they could change."""
    if args.sm and RTX not in [runtime for runtime, _ in targets]:
        raise InputError("--sm names targets of tensorrt_rtx engines, and none is built: add --engines tensorrt_rtx")
    if args.batch and not targets:
        raise InputError(
            f"--batch is for engines, and none is built: add --sm, or --engines with {' or '.join(RUNTIMES)}"
        )


def _threshold_frames(args: argparse.Namespace) -> FramesRequest | None:
    """Return the frames that the abstain threshold is fitted on, where that is asked for."""
    if args.abstain_on_frames:
        if args.jitter and (args.camera or args.detector):
            given = "--camera" if args.camera else "--detector"
            raise InputError(f"--jitter moves labeled boxes, and {given} gives other regions: leave out one of the two")
        return FramesRequest(
            args.frames_of, "val", args.camera, args.detector, labeled=args.jitter > 0, jitter=args.jitter
        )
    if args.frames_of or args.camera or args.detector or args.jitter:
        raise InputError("--frames-of, --camera, --detector and --jitter fit the threshold: add --abstain-on-frames")
    return None


def _checkpoints(run: Run, wanted: list[str] | None, allow_unfinished: bool) -> dict[str, Path]:
    """Return {architecture: checkpoint} to export. Raises InputError for an unfinished training, unless allowed."""
    trained = run.checkpoints()
    if not trained:
        raise InputError(f"{run.path} holds no checkpoint (ARCH/best.safetensors): train it first")
    names = [folder_name(name) for name in wanted] if wanted else list(trained)
    if unknown := [name for name in names if name not in trained]:
        raise InputError(f"{run.path} holds no checkpoint of {unknown[0]}: it has {', '.join(trained)}")
    unfinished = [name for name in run.unfinished() if name in names or not wanted]
    if unfinished and not allow_unfinished:
        raise InputError(
            f"{run.path}: the training of {', '.join(unfinished)} is not finished: continue it with "
            f"`python -m training train ... --out {run.path} --resume`, or export the best so far with --unfinished"
        )
    for name in unfinished:
        effect = "the best so far is exported" if name in trained else "no checkpoint yet"
        log.info(f"{name}: not finished, {effect}")
    return {name: trained[name] for name in names}


def _plan(path: Path, options: ExportOptions) -> list[dict[str, str]]:
    """Return what an export would make from one checkpoint: the bundle, then its engines."""
    metadata = load_checkpoint(path).metadata
    folder = _bundle_folder(path, metadata, options)
    planned = [(f"bundle with {', '.join(options.precisions)}", str(folder))]
    buildable = [precision for precision in options.precisions if precision in trt.PRECISIONS]
    for runtime, sm in options.targets:
        device = f"sm{sm}" if sm else "this machine's device"
        planned += [(f"engine {precision} {runtime}", device) for precision in buildable]
        if keeps_detector(folder):
            planned.append((f"engine {OF_DETECTOR} {runtime}", device))
    return [{"arch": metadata.arch, "what": what, "target": target} for what, target in planned]


def _bundle_folder(path: Path, metadata: CheckpointMetadata, options: ExportOptions) -> Path:
    """Return the bundle's folder, beside the checkpoint; another input size has a folder of its own."""
    same = options.size_px in (None, metadata.geometry.size_px)
    return path.parent / ("bundle" if same else f"bundle_{options.size_px}")


def _export(path: Path, pack: Pack, options: ExportOptions) -> dict[str, Any]:
    """Export one checkpoint; return its row of the report, with a sentence for each failure."""
    checkpoint = load_checkpoint(path)
    check_agreement(path, checkpoint.metadata, pack)
    size_px = options.size_px or checkpoint.metadata.geometry.size_px
    target = _bundle_folder(path, checkpoint.metadata, options)
    result: dict[str, Any] = {"arch": checkpoint.metadata.arch, "bundle": None, "failed": [], "engines": []}
    lost = _precisions_lost(target, options)
    started = perf_counter()
    try:
        with replacing_folder(target) as folder:
            builder = _assemble(path, checkpoint, pack, folder, size_px, options)
            bundle = prove_and_seal(builder)
            if bundle.detector:
                prove_detector(bundle)
            result["failed"] += [
                f"{bundle.arch}: the bundle goes without {precision} ({first_failure(gate)})"
                for precision, gate in bundle.gates.items()
                if not gate["passed"]
            ]
            result["engines"] = build_engines(bundle, options.targets, options.build)
    except CheckError as error:  # one architecture without a bundle must not cost the others theirs
        result["failed"].append(str(error))
        return result
    result["bundle"] = str(target)
    result["gates"] = bundle.gates
    result["parity"] = to_json(builder.results)
    sizes = {name: entry["bytes"] for name, entry in bundle.files.items()}
    result["mib"] = {name: round(size / 2**20, 2) for name, size in sizes.items()}
    log.info(f"{bundle.arch}: {target} in {perf_counter() - started:.0f} s")
    if lost:
        log.warning(
            f"{bundle.arch}: the bundle that was replaced held {', '.join(lost)} too, which --precisions left out"
        )
    return result


def _precisions_lost(target: Path, options: ExportOptions) -> list[str]:
    """Return the precisions of the bundle that is replaced which this export does not make."""
    with suppress(InputError):  # none there, or a damaged one
        return [precision for precision in open_bundle(target).precisions if precision not in options.precisions]
    return []


def _assemble(
    path: Path, checkpoint: Checkpoint, pack: Pack, folder: Path, size_px: int, options: ExportOptions
) -> BundleBuilder:
    facts = checkpoint.metadata
    if size_px != facts.geometry.size_px and models.has_fixed_size(facts.arch):
        raise CheckError(
            f"{facts.arch}: no bundle of {size_px} px, it takes images of {facts.geometry.size_px} px only"
        )
    network = checkpoint.build_network()
    log.info(f"{facts.arch}: fp32 at {size_px} px")
    builder = begin_bundle(path, checkpoint, network, pack, folder, size_px)
    # the detector of the bundle that is replaced is taken over; a threshold on frames is fitted behind it
    builder.bundle = keep_detector(_bundle_folder(path, facts, options), builder.bundle)
    fp32 = add_fp32(builder, network)
    # before the other precisions: each is stamped with the contract, and the threshold is part of that
    if request := options.abstain_on:
        fit_on_frames(builder, fp32, open_pack(request.pack) if request.pack else pack, request)
    if "fp16" in options.precisions:
        log.info(f"{facts.arch}: fp16")
        add_or_refuse(builder, "fp16", lambda: add_fp16(builder, fp32))
    if "int8" in options.precisions:
        log.info(f"{facts.arch}: int8")
        add_or_refuse(builder, "int8", lambda: add_int8(builder, fp32))
    return builder
