"""Build engines and their manifests from a bundle, or from a detector's ONNX file: for this device or ahead of time."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path

from core.bundle.contract import DETECTOR, open_bundle
from core.bundle.engine_manifest import EngineManifest, load_manifest
from core.cli import Parser
from core.errors import CheckError, InputError
from core.geometry.camera_config import CameraConfig
from core.geometry.detector_config import DetectorFile
from core.locks import locked
from core.plugins import parse_options
from inference.backends import option_help
from inference.backends.trt import PRECISIONS, BuildOptions, build, build_detector
from inference.backends.trt.runtimes import RTX_TARGETS, RUNTIMES, choose_target
from inference.runner.region_choice import find_detector

log = logging.getLogger(__name__)
Build = Callable[..., Path]
"""Builds one engine for `runtime`, `sm` and `options`."""


def main(arguments: list[str]) -> int:
    """Build engines; return 1 when none could be built."""
    args = _read_arguments(arguments)
    options = parse_options(BuildOptions, args.backend_option, f"a build for {args.backend}")
    _refuse_unused(args.what, {text.partition("=")[0] for text in args.backend_option})
    builds = list(_builds(args.what, args.precision))
    # before the first build: a wrong target among several is told at once
    for sm in args.sm or [None]:
        choose_target(args.runtime, sm)
    bundle = args.what if args.what.is_dir() else args.what.parent
    with locked(bundle) if (bundle / "bundle.json").is_file() else nullcontext():
        manifests = _build_all(builds, args, options)
    rows: list[dict[str, object]] = []
    lines: list[str] = []
    for engine, manifest in manifests:
        size = f"{manifest.engine_bytes / 2**20:.1f} MiB in {manifest.build_seconds:.1f} s"
        lines.append(f"{manifest.state:6} {engine}  {size}, {manifest.runtime} {manifest.version}")
        facts = {name: getattr(manifest, name) for name in ("precision", "runtime", "version", "target")}
        facts |= {"bytes": manifest.engine_bytes, "build_seconds": manifest.build_seconds, "state": manifest.state}
        rows.append({"engine": str(engine), **facts})
    print(json.dumps(rows, indent=1) if args.json else "\n".join(lines))
    return 0 if rows else 1


def _build_all(
    builds: list[Build], args: argparse.Namespace, options: BuildOptions
) -> list[tuple[Path, EngineManifest]]:
    """Build every engine for every target; return those that could be built, with their manifests."""
    built = []
    for build_engine in builds:
        for sm in args.sm or [None]:
            try:
                engine = build_engine(runtime=args.runtime, sm=sm, options=options)
            except CheckError as error:  # the other targets and precisions may still be built
                log.error(f"not built: {error}")
                continue
            except OSError as error:
                reason = f"{error.filename} cannot be written ({error.strerror})"
                raise InputError(f"{reason}: give access to it, or copy {args.what} to another folder") from None
            built.append((engine, load_manifest(engine, "build it again")))
    return built


def _refuse_unused(what: Path, stated: set[str]) -> None:
    """Refuse the options that would change no engine of this bundle or file."""
    if what.is_file() and "batches" in stated:
        raise InputError(f"{what} is a detector's file, which sees one picture at a time: leave out batches")
    if what.is_dir() and "size_hw" in stated:
        raise InputError(f"{what} is a bundle, which states the size of every input: leave out size_hw")


def _builds(what: Path, precisions: list[str] | None) -> Iterator[Build]:
    """Yield what builds each engine: of the precisions and the detector of a bundle, or of a detector's file alone."""
    if what.is_file():
        if precisions:
            raise InputError(f"{what} is a detector's file, which has no other precisions: leave out --precision")
        yield partial(build_detector, _detector_of(what))
        return
    bundle = open_bundle(what)
    for precision in precisions or ():
        bundle.check_precision(precision)
    for precision in precisions or [p for p in bundle.precisions if p in PRECISIONS]:
        yield partial(build, bundle, precision)
    # with every precision: it runs in front of each
    if detector := find_detector(bundle, CameraConfig()):
        yield partial(build_detector, detector)


def _detector_of(file: Path) -> DetectorFile:
    """Return a detector's file, with its settings where it is that of a bundle. Raises InputError for another there."""
    if (file.parent / "bundle.json").is_file():
        detector = find_detector(open_bundle(file.parent), CameraConfig())
        if detector is None or file.name != DETECTOR:
            # its engine would lie among those of the bundle, and `verify` would name it as a foreign one
            raise InputError(f"{file} is not the detector of its bundle: give {file.parent}, or copy it elsewhere")
        return detector
    return DetectorFile(file)


def _read_arguments(arguments: list[str]) -> argparse.Namespace:
    parser = Parser(
        prog="python -m inference build",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"options of the backends, with their defaults:\n{option_help('BuildOptions')}",
    )
    parser.add_argument(
        "what",
        type=Path,
        metavar="BUNDLE",
        help="a bundle's folder, such as runs/NAME/production, or a detector's ONNX file",
    )
    parser.add_argument("--backend", choices=["trt"], default="trt", help="the only backend with engines")
    parser.add_argument(
        "--runtime", choices=RUNTIMES, help="runtime that builds (default: the first installed one for the target)"
    )
    parser.add_argument(
        "--precision", nargs="+", choices=PRECISIONS, help="precisions to build (default: all that passed their gates)"
    )
    parser.add_argument(
        "--sm", nargs="+", type=int, help=f"targets (default: this device); ahead of time: {RTX_TARGETS}"
    )
    parser.add_argument(
        "--backend-option", action="append", default=[], metavar="NAME=VALUE", help="such as batches=1,4; see below"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser.parse_args(arguments)
