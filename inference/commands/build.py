"""Build an engine and its manifest from a bundle's ONNX file, for this device or ahead of time."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from core.bundle.contract import open_bundle
from core.bundle.engine_manifest import load
from core.cli import Parser
from core.errors import CheckError, InputError
from inference.backends.trt import LEVELS, PRECISIONS, RUNTIMES, Options, build

log = logging.getLogger(__name__)


def main(arguments: list[str]) -> int:
    """Build engines; return 1 when none could be built."""
    parser = Parser(prog="python -m inference build", description=__doc__)
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument("--backend", choices=["trt"], default="trt")
    parser.add_argument("--runtime", choices=RUNTIMES, help="default: the first that is installed")
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, help="default: every one that passed its gates")
    parser.add_argument("--sm", nargs="+", type=int, help="compute capabilities, 86 for 8.6; default: this device")
    sizes = list(Options.batches)
    parser.add_argument(
        "--batch", nargs="+", type=int, default=sizes, help=f"regions at a time, a profile each ({sizes})"
    )
    parser.add_argument("--tf32", action="store_true", help="let the GPU round fp32 products to TF32")
    parser.add_argument("--level", type=int, choices=LEVELS, help="how long to look for fast kernels")
    parser.add_argument("--workspace", type=int, default=1024, metavar="MIB", help="device memory for kernels (1024)")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args(arguments)
    bundle = open_bundle(asked.bundle)
    options = Options(tuple(asked.batch), asked.tf32, asked.level, asked.workspace)
    for precision in asked.precision or ():
        if precision not in bundle.precisions:
            held = ", ".join(bundle.precisions) or "none"
            raise InputError(f"{bundle.file}: {precision} is not a precision that passed its gates (these did: {held})")
    rows: list[dict[str, object]] = []
    lines: list[str] = []
    for precision in asked.precision or [p for p in bundle.precisions if p in PRECISIONS]:
        for sm in asked.sm or [None]:
            try:
                engine = build(bundle, precision, runtime=asked.runtime, sm=sm, options=options)
            except CheckError as error:
                log.error(f"not built: {error}")
                continue
            manifest = load(engine, "build it again")
            size = f"{manifest.engine_bytes / 2**20:.1f} MiB in {manifest.build_seconds:.1f} s"
            lines.append(f"{manifest.state:6} {engine}  {size}, {manifest.runtime} {manifest.version}")
            facts = {name: getattr(manifest, name) for name in ("precision", "runtime", "version", "target")}
            facts |= {"bytes": manifest.engine_bytes, "build_seconds": manifest.build_seconds, "state": manifest.state}
            rows.append({"engine": str(engine), **facts})
    print(json.dumps(rows, indent=1) if asked.json else "\n".join(lines))
    return 0 if rows else 1
