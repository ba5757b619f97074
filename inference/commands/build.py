"""Build an engine and its manifest from a bundle's ONNX file, for this device or ahead of time."""

from __future__ import annotations

import json
import logging
from argparse import RawDescriptionHelpFormatter
from pathlib import Path

from core.bundle.contract import open_bundle
from core.bundle.engine_manifest import load_manifest
from core.cli import Parser
from core.errors import CheckError, InputError
from core.plugins import parse_options
from inference.backends import option_help
from inference.backends.trt import PRECISIONS, RTX_TARGETS, RUNTIMES, BuildOptions, build

log = logging.getLogger(__name__)


def main(arguments: list[str]) -> int:
    """Build engines; return 1 when none could be built."""
    parser = Parser(
        prog="python -m inference build",
        description=__doc__,
        formatter_class=RawDescriptionHelpFormatter,
        epilog=f"options of the backends, with their defaults:\n{option_help('BuildOptions')}",
    )
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="a bundle's folder, such as runs/NAME/production")
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
    args = parser.parse_args(arguments)
    bundle = open_bundle(args.bundle)
    options = parse_options(BuildOptions, args.backend_option, f"a build for {args.backend}")
    for precision in args.precision or ():
        if precision not in bundle.precisions:
            held = ", ".join(bundle.precisions) or "none"
            raise InputError(f"{bundle.file}: {precision} is not a precision that passed its gates (these did: {held})")
    rows: list[dict[str, object]] = []
    lines: list[str] = []
    for precision in args.precision or [p for p in bundle.precisions if p in PRECISIONS]:
        for sm in args.sm or [None]:
            try:
                engine = build(bundle, precision, runtime=args.runtime, sm=sm, options=options)
            except CheckError as error:  # the other targets and precisions may still be built
                log.error(f"not built: {error}")
                continue
            manifest = load_manifest(engine, "build it again")
            size = f"{manifest.engine_bytes / 2**20:.1f} MiB in {manifest.build_seconds:.1f} s"
            lines.append(f"{manifest.state:6} {engine}  {size}, {manifest.runtime} {manifest.version}")
            facts = {name: getattr(manifest, name) for name in ("precision", "runtime", "version", "target")}
            facts |= {"bytes": manifest.engine_bytes, "build_seconds": manifest.build_seconds, "state": manifest.state}
            rows.append({"engine": str(engine), **facts})
    print(json.dumps(rows, indent=1) if args.json else "\n".join(lines))
    return 0 if rows else 1
