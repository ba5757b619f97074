"""Time all that the runner does with a frame: frames/s of the null backend, and three zones beside one, in turns."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure.frames import SIZE_PX, synthetic_frames
from benchmarks.measure.machine import describe_machine
from benchmarks.measure.measured_set import show_progress
from benchmarks.measure.speed.latency import Samples, compare, take_turns, zone_processor
from core.bundle.contract import Bundle, open_bundle
from core.cli import Parser
from core.errors import check_positive
from core.geometry.frame import Relative
from core.geometry.preprocess import KERNELS
from core.synthetic import ZONES
from inference.backends import open_backend
from inference.frame.processor import FrameProcessor
from inference.frame.regions import WHOLE
from inference.runner.selection import pick_backend_and_precision

ONE: Mapping[str, Relative] = {WHOLE: (0.0, 0.0, 1.0, 1.0)}


def main(arguments: list[str]) -> None:
    """Run `python -m benchmarks.studies hotpath BUNDLE`; print the table."""
    parser = Parser(prog="python -m benchmarks.studies hotpath", description=__doc__)
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument("--backends", nargs="+", default=["ort"], help="beside the null backend")
    parser.add_argument("--precision", help="default: int8 where its gates hold, else fp32")
    parser.add_argument("--kernel", choices=KERNELS, help="to time in place of the bundle's own")
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--samples", type=int, default=480, help="frames of each row and number of zones")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    check_positive(samples=options.samples, threads=min(options.threads))
    bundle = by_kernel(open_bundle(options.bundle), options.kernel)
    rows = measure(bundle, options.backends, options.precision, options.threads, options.samples)
    if options.json:
        facts = {"size_px": SIZE_PX, "kernel": bundle.geometry.kernel, "zones": [1, len(ZONES)]}
        print(json.dumps({**facts, "machine": describe_machine(), "rows": rows}))
        return
    print("backend    precision  threads  frames/s  1 zone ms  3 zones ms  ratio (95%)")
    for row in rows:
        low, high = row["ratio_interval"]
        print(
            f"{row['backend']:10} {row['precision']:10} {row['threads']:7}  {row['frames_per_s']:8.0f}"
            f"  {row['one_ms']:9.3f}  {row['three_ms']:10.3f}  {row['ratio']:.2f} ({low:.2f} to {high:.2f})"
        )


def by_kernel(bundle: Bundle, kernel: str | None) -> Bundle:
    """Return the bundle as if its geometry had this kernel, to time it; its answers are no longer proved."""
    return replace(bundle, geometry=replace(bundle.geometry, kernel=kernel)) if kernel else bundle


def measure(
    bundle: Bundle, backends: list[str], precision: str | None, threads: list[int], samples: int
) -> list[dict[str, Any]]:
    """Return a row for the null backend and one a backend and thread count; all take turns, one and three zones too."""
    facts, processors = list[dict[str, Any]](), list[FrameProcessor]()
    with ExitStack() as stack:
        for name, count in [("null", 1), *((name, count) for name in backends for count in threads)]:
            chosen = pick_backend_and_precision(bundle, name, precision)[1]
            for zones in (ONE, ZONES):
                backend = stack.enter_context(open_backend(name, bundle, chosen, batch=len(zones), threads=count))
                processors.append(zone_processor(bundle, backend, zones))
            facts.append({key: backend.describe()[key] for key in ("backend", "precision", "threads")})
        taken = take_turns(processors, synthetic_frames(), samples=samples, on_round=show_progress("hot path"))
    pairs = zip(facts, taken[::2], taken[1::2], strict=True)
    return [fact | describe(one, three) for fact, one, three in pairs]


def describe(one: Samples, three: Samples) -> dict[str, Any]:
    """Return the medians, and the ratio of the undisturbed times with its interval."""
    one_ms, three_ms = float(np.median(one.frame_ms)), float(np.median(three.frame_ms))
    ratio = float(np.median(three.undisturbed_ms / one.undisturbed_ms))
    times = {"frames_per_s": 1000 / one_ms, "one_ms": one_ms, "three_ms": three_ms}
    return {**times, "ratio": ratio, "ratio_interval": list(compare(one, three))}
