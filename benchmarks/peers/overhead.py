"""Measure the time of a frame outside the network: our frame step and Ultralytics' predict, in turns, on one video.

Usage: python -m benchmarks.peers.overhead VIDEO --bundle BUNDLE [--out DIR]. The video is scaled to 1280x720. Both
tools answer for the whole frame and for one zone of it, ours by the kernel of the bundle and by `linear`, each with one
thread and ONNX Runtime. Overhead is the time of a frame less the time of its network call. It is given in wall time and
in processor time of the calling thread, which other processes on the machine do not stretch. In turns, the other tool
has emptied the caches before each frame, so both are slower here than alone.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import count, cycle, islice
from pathlib import Path
from time import perf_counter, thread_time
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.measure.frames import EGO, SIZE_PX, read_source
from benchmarks.measure.machine import describe_machine
from benchmarks.measure.speed.latency import frame_at, zone_processor
from benchmarks.studies.commands.hotpath import ONE, by_kernel
from benchmarks.studies.dated import as_table, write_dated
from core.bundle.contract import Bundle, open_bundle
from core.cli import Parser, run_command
from core.codec import from_json, to_json
from core.errors import InputError
from core.files import read_json, write_json
from core.geometry.frame import Bytes, Relative
from core.stats import Floats
from core.timing import interleave
from inference.backends import open_backend
from inference.frame.processor import FrameResult
from inference.frame.regions import Zones
from inference.runner.selection import pick_backend_and_precision

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
WARM_UPS = 20
ARCH = "yolov8n-cls.yaml"
VIEWS: Mapping[str, Mapping[str, Relative]] = {"the frame": ONE, "one zone": EGO}
COLUMNS = (
    "sees", "tool", "overhead, wall ms", "processor ms", "its p10", "whole frame, wall ms", "overhead of theirs",
    "of their whole frame",
)  # fmt: skip


@dataclass(frozen=True)
class Overhead:
    """Medians of a tool in milliseconds."""

    view: str
    tool: str
    wall_ms: float
    cpu_ms: float
    cpu_p10_ms: float
    """The 10th percentile: frames whose caches no other process emptied."""
    frame_ms: float


@dataclass(frozen=True)
class Overheads:
    """All rows of a measurement."""

    video: str
    frames: int
    size_px: int
    ultralytics: str
    """Its version."""
    rows: tuple[Overhead, ...]


class Clock:
    """A context manager that adds up the wall and processor time inside it, in milliseconds."""

    def __init__(self) -> None:
        self.wall_ms = self.cpu_ms = 0.0

    def __enter__(self) -> Clock:
        self._wall, self._cpu = perf_counter(), thread_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall_ms += (perf_counter() - self._wall) * 1000
        self.cpu_ms += (thread_time() - self._cpu) * 1000

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function, timed."""

        def timed(*arguments: Any, **named: Any) -> Any:
            with self:
                return function(*arguments, **named)

        return timed


@dataclass(frozen=True)
class Tool:
    """One way to answer a frame, and the clock around its network calls."""

    name: str
    view: str
    answer: Callable[[Bytes], Any]
    network: Clock

    def time(self, frames: Iterator[NDArray[Any]]) -> tuple[float, float, float]:
        """Answer a frame; return its overhead in wall and in processor time, and its whole wall time, in ms."""
        frame_bgr = next(frames).copy()  # in the caches, where a camera leaves its frame
        before, whole = (self.network.wall_ms, self.network.cpu_ms), Clock()
        with whole:
            self.answer(frame_bgr)
        inside = self.network.wall_ms - before[0], self.network.cpu_ms - before[1]
        return whole.wall_ms - inside[0], whole.cpu_ms - inside[1], whole.wall_ms


def ours(bundle: Bundle, view: str, kernel: str) -> Tool:
    """Return the runner's whole frame step as a tool."""
    bundle = by_kernel(bundle, kernel)
    name, precision = pick_backend_and_precision(bundle, "ort", None)
    backend, network = open_backend(name, bundle, precision, threads=1), Clock()
    backend.infer = network.around(backend.infer)  # type: ignore[method-assign]
    processor, ids = zone_processor(bundle, backend, VIEWS[view]), count()

    def process(frame_bgr: Bytes) -> FrameResult:
        return processor.process(frame_at(next(ids), frame_bgr))

    return Tool(f"ours, {kernel}", view, process, network)


def theirs(folder: Path, view: str, size_px: int) -> Tool:
    """Return Ultralytics' predict on its own exported ONNX file, with untrained weights."""
    from ultralytics import YOLO

    folder.mkdir()
    model = YOLO(ARCH)
    model.model.names = {i: str(i) for i in range(1000)}
    model.save(str(folder / "net.pt"))
    exported = YOLO(YOLO(str(folder / "net.pt")).export(format="onnx", imgsz=size_px), task="classify")
    x0, y0, x1, y1 = Zones(VIEWS[view]).rects(*SIZE_PX)[0]

    def predict(frame_bgr: Bytes) -> Any:
        return exported.predict(frame_bgr[y0:y1, x0:x1], imgsz=size_px, verbose=False, device="cpu")

    predict(np.zeros((*SIZE_PX[::-1], 3), np.uint8))
    network = Clock()
    exported.predictor.inference = network.around(exported.predictor.inference)
    return Tool("ultralytics", view, predict, network)


def measure(args: argparse.Namespace) -> Overheads:
    """Run all tools in turns; return the medians. Needs the environment that has Ultralytics."""
    cv2.setNumThreads(1)
    frames = [cv2.resize(f, SIZE_PX, interpolation=cv2.INTER_AREA) for f in read_source(args.video, args.frames)]
    bundle = open_bundle(args.bundle)
    kernel, size_px = bundle.geometry.kernel, bundle.geometry.size_px
    tools = [ours(bundle, view, k) for view in VIEWS for k in sorted({kernel, "linear"})]
    with tempfile.TemporaryDirectory() as folder:
        tools += [theirs(Path(folder) / str(i), view, size_px) for i, view in enumerate(VIEWS)]
        turns = interleave([partial(tool.time, cycle(frames)) for tool in tools])
        taken = list(islice(turns, WARM_UPS, WARM_UPS + args.rounds * len(frames)))
    import ultralytics

    rows = [summarize(tool, np.array(times)) for tool, times in zip(tools, zip(*taken, strict=True), strict=True)]
    return Overheads(Path(args.video).name, len(taken), size_px, ultralytics.__version__, tuple(rows))


def summarize(tool: Tool, times: Floats) -> Overhead:
    """Return the medians of float64 (frames, 3): overhead in wall and processor ms, the whole frame in wall ms."""
    wall, cpu, frame = np.median(times, axis=0).tolist()
    return Overhead(tool.view, tool.name, wall, cpu, float(np.percentile(times[:, 1], 10)), frame)


def call(command: list[str], **named: Any) -> None:
    """Run a command in the repository's root. Raises InputError when it fails."""
    if subprocess.run(command, cwd=ROOT, check=False, **named).returncode:
        raise InputError("the measurement failed: its output is above")


def report(folder: Path, found: Overheads) -> None:
    """Print the table; write it with the machine."""
    machine, peers = describe_machine(), {row.view: row for row in found.rows if row.tool == "ultralytics"}
    cells = []
    for row in found.rows:
        peer = peers[row.view]
        ratios = row.wall_ms / peer.wall_ms, row.wall_ms / peer.frame_ms
        figures = (row.wall_ms, row.cpu_ms, row.cpu_p10_ms, row.frame_ms, *ratios)
        cells.append([row.view, row.tool, *(f"{value:.3f}" for value in figures)])
    lines = [
        f"{found.frames} frames of {found.video} at 1280x720, {found.size_px} px, in turns; medians."
        f" {machine.cpu}, {machine.cores} cores, load {machine.load_average[0]}.",
        "",
        *as_table(COLUMNS, cells),
    ]
    body = {"machine": machine, **to_json(found)}
    write_dated(folder, "overhead", body, f"Overhead beside Ultralytics {found.ultralytics}", lines)


def main() -> None:
    """Make Ultralytics' environment, measure in it, and report."""
    parser = Parser(prog="python -m benchmarks.peers.overhead", description=__doc__)
    parser.add_argument("video", metavar="VIDEO", help="a video file, or any source of the runner")
    parser.add_argument("--bundle", type=Path, required=True, help="our bundle")
    parser.add_argument("--frames", type=int, default=200, help="frames of the video (200)")
    parser.add_argument("--rounds", type=int, default=3, help="times that all frames are answered (3)")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results", metavar="DIR")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inside:
        write_json(args.inside, to_json(measure(args)))
        return
    from benchmarks.peers.__main__ import make_environment

    with tempfile.TemporaryDirectory() as folder:
        python, result = make_environment(Path(folder) / "venv"), Path(folder) / "result.json"
        command = [str(python), "-m", "benchmarks.peers.overhead", *sys.argv[1:], "--inside", str(result)]
        quiet = {"YOLO_CONFIG_DIR": folder, "YOLO_VERBOSE": "False", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
        call(command, stdout=sys.stderr, env=os.environ | quiet)
        report(args.out, from_json(Overheads, read_json(result), str(result)))


if __name__ == "__main__":
    raise SystemExit(run_command(main))
