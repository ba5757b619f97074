"""Time the frame step of the runner, without a network and with it: three zones compared with the whole frame."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.measure.machine import describe_machine
from benchmarks.measure.speed.latency import compare_times, take_turns, zone_processor
from benchmarks.measure.speed.timed_frames import SIZE_PX, synthetic_frames
from benchmarks.results.candidate import Latency
from core.bundle.contract import Bundle, open_bundle
from core.cli import Parser
from core.codec import to_json
from core.errors import check_positive
from core.geometry.frame import WHOLE_FRAME
from core.geometry.preprocess import KERNELS
from core.stats import Interval
from core.synthetic import ZONES
from core.timing import median_ratio
from inference.backends import open_backend
from inference.frame.processor import FrameProcessor
from inference.frame.regions import WHOLE_ZONE
from inference.runner.selection import pick_backend_and_precision

ONE_ZONE = {WHOLE_ZONE: WHOLE_FRAME}


def main(arguments: list[str]) -> None:
    """Run `python -m benchmarks.studies hotpath BUNDLE`; print the table."""
    parser = Parser(prog="python -m benchmarks.studies hotpath", description=__doc__)
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="the folder of a bundle")
    parser.add_argument(
        "--backends",
        nargs="+",
        default=["ort"],
        help="backends to time beside the null backend, which has no network (default: ort)",
    )
    parser.add_argument(
        "--precision",
        help="precision of the model file (default: the production choice, else int8, fp32 or fp16, the first to pass)",
    )
    parser.add_argument("--kernel", choices=KERNELS, help="the resize kernel, in place of the bundle's")
    parser.add_argument("--threads", type=int, nargs="+", default=[1], help="thread counts (default: 1)")
    parser.add_argument(
        "--samples", type=int, default=480, help="frames timed with the whole frame, and with the zones (default: 480)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args(arguments)
    check_positive(samples=args.samples, threads=min(args.threads))
    bundle = with_kernel(open_bundle(args.bundle), args.kernel)
    rows = measure(bundle, args.backends, args.precision, args.threads, args.samples)
    if args.json:
        facts = {"size_px": SIZE_PX, "kernel": bundle.geometry.kernel, "zones": [1, len(ZONES)]}
        print(json.dumps(to_json({**facts, "machine": describe_machine(), "rows": rows})))
        return
    print("backend    precision  threads  frames/s  whole frame ms  3 zones ms  ratio (95%)")
    for row in rows:
        print(
            f"{row.backend:10} {row.precision:10} {row.threads:7}  {row.frames_per_s:8.0f}"
            f"  {row.one_ms:14.3f}  {row.three_ms:10.3f}  {row.ratio:.2f} ({row.ratio_interval.low:.2f} to"
            f" {row.ratio_interval.high:.2f})"
        )


@dataclass(frozen=True)
class HotPath:
    """The median times of the whole frame and of three zones, and the ratio of their undisturbed times."""

    backend: str
    precision: str
    threads: int
    frames_per_s: float
    one_ms: float
    three_ms: float
    ratio: float
    ratio_interval: Interval


def with_kernel(bundle: Bundle, kernel: str | None) -> Bundle:
    """Return the bundle with another resize kernel, for timing only: its answers are no longer proved."""
    return replace(bundle, geometry=replace(bundle.geometry, kernel=kernel)) if kernel else bundle


def measure(
    bundle: Bundle, backends: list[str], precision: str | None, threads: list[int], samples: int
) -> list[HotPath]:
    """Time the null backend, and each backend with each thread count, all in turns; return a result for each."""
    opened = list[dict[str, Any]]()
    processors = list[FrameProcessor]()
    with ExitStack() as stack:
        # null shows what a frame costs without a network
        for name, count in [("null", 1), *((name, count) for name in backends for count in threads)]:
            chosen = pick_backend_and_precision(bundle, name, precision)[1]
            for zones in (ONE_ZONE, ZONES):  # in pairs: hotpath_of takes them one after the other
                backend = stack.enter_context(open_backend(name, bundle, chosen, batch=len(zones), threads=count))
                processors.append(zone_processor(bundle, backend, zones))
            opened.append(backend.describe())
        taken = take_turns(processors, synthetic_frames(), samples=samples, what="hot path")
    return list(map(hotpath_of, opened, taken[::2], taken[1::2]))


def hotpath_of(facts: dict[str, Any], whole: Latency, zones: Latency) -> HotPath:
    """Return the result of a backend, which `facts` describes, from the times of the whole frame and of three zones."""
    one_ms, three_ms = whole.frame_ms.p50, zones.frame_ms.p50
    ratio = median_ratio(whole.undisturbed_ms, zones.undisturbed_ms)
    identity = facts["backend"], facts["precision"], facts["threads"]
    return HotPath(*identity, 1000 / one_ms, one_ms, three_ms, ratio, compare_times(whole, zones))
