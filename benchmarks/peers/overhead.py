"""What a frame costs besides the network: our runner and Ultralytics' predict, in turns, on the same frames.

Usage: python -m benchmarks.peers.overhead VIDEO --bundle BUNDLE [--out DIR]. The video is scaled to 1280x720; one zone,
the whole frame; one thread each, ONNX Runtime under both. Overhead is a frame's time less the call of the network, of
which each tool's own is timed: in wall time, and in processor time of the one thread that does it, which neighbours on
the machine do not stretch and threads of a runtime that spin do not count in.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from time import perf_counter, thread_time
from typing import Any

import cv2
import numpy as np

from benchmarks.machine import describe_machine
from inference.backends import open_backend
from inference.camera import Camera, Mounting
from inference.contract import open_bundle
from inference.errors import InputError, run_command
from inference.files import write_json, write_text
from inference.pipeline import Pipeline
from inference.regions import whole_frame
from inference.runner import Runner, pick_backend_and_precision
from inference.sources import EndOfStream, Frame, open_source
from inference.steady import Habits

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SIZE_PX = (1280, 720)
WARM_UPS = 20
ARCH = "yolov8n-cls.yaml"


class Clock:
    """Adds up wall and processor time of what runs within it, in milliseconds."""

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


def read_frames(uri: str, most: int) -> list[Any]:
    """Return the frames of a source at 1280x720, uint8 (H, W, 3) BGR."""
    source, frames = open_source(uri), list[Any]()
    try:
        while len(frames) < most and (frame := source.read(10.0)) is not None:
            frames.append(cv2.resize(frame.image_bgr, SIZE_PX, interpolation=cv2.INTER_AREA))
    except EndOfStream:
        pass
    finally:
        source.close()
    return frames


def ours(path: Path, network: Clock) -> tuple[Callable[[int, Any], Any], int]:
    """Return what decides a frame, and the input size: everything the runner does between its source and its sinks."""
    bundle = open_bundle(path)
    name, precision = pick_backend_and_precision(bundle, "ort", None)
    backend = open_backend(name, bundle, precision, threads=1)
    backend.infer = network.around(backend.infer)  # type: ignore[method-assign]
    source = open_source("synthetic://?frames=1")
    mounting, pipeline = Mounting(Camera()), Pipeline(bundle, backend)
    runner = Runner(bundle, pipeline, source, whole_frame(), mounting, [], (), habits=Habits())
    size_px = bundle.geometry.size_px
    return lambda i, image: runner.decide(Frame(i, 0, image, i * 33_000_000), mounting.upright(image)), size_px


def theirs(folder: Path, size_px: int, network: Clock) -> Callable[[int, Any], Any]:
    """Return Ultralytics' predict on its own exported ONNX file, weights as they were born."""
    from ultralytics import YOLO

    model = YOLO(ARCH)
    model.model.names = {i: str(i) for i in range(1000)}
    model.save(str(folder / "net.pt"))
    exported = YOLO(YOLO(str(folder / "net.pt")).export(format="onnx", imgsz=size_px), task="classify")

    def predict(_: int, image: Any) -> Any:
        return exported.predict(image, imgsz=size_px, verbose=False, device="cpu")

    predict(0, np.zeros((*SIZE_PX[::-1], 3), np.uint8))
    exported.predictor.inference = network.around(exported.predictor.inference)
    return predict


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run both in turns; return the medians. Runs in the environment that has Ultralytics."""
    cv2.setNumThreads(1)
    frames = read_frames(options.video, options.frames)
    networks = Clock(), Clock()
    our_frame, size_px = ours(options.bundle, networks[0])
    with tempfile.TemporaryDirectory() as folder:
        tools = our_frame, theirs(Path(folder), size_px, networks[1])
        times: tuple[list[Any], list[Any]] = [], []
        for i in range(-WARM_UPS, options.rounds * len(frames)):
            for k in (0, 1) if i % 2 else (1, 0):
                whole, before = Clock(), (networks[k].wall_ms, networks[k].cpu_ms)
                with whole:
                    tools[k](i + WARM_UPS, frames[i % len(frames)])
                inside = networks[k].wall_ms - before[0], networks[k].cpu_ms - before[1]
                if i >= 0:
                    times[k].append((whole.wall_ms - inside[0], whole.cpu_ms - inside[1], whole.wall_ms))
    rows = {}
    for name, series in zip(("ours", "ultralytics"), times, strict=True):
        wall, cpu, total = np.median(np.array(series), axis=0)
        fast = np.percentile(np.array(series)[:, 1], 10)  # the frames whose caches no neighbour emptied
        rows[name] = {"wall_ms": wall, "cpu_ms": cpu, "cpu_p10_ms": fast, "frame_wall_ms": total}
    ratios = {k: rows["ours"][k] / rows["ultralytics"][k] for k in ("wall_ms", "cpu_ms", "cpu_p10_ms")}
    import ultralytics

    facts = {"frames": len(times[0]), "size_px": size_px, "video": Path(options.video).name}
    return {**facts, "ultralytics": ultralytics.__version__, "rows": rows, "ratios": ratios}


def report(options: argparse.Namespace, result: dict[str, Any]) -> None:
    """Print the table; write it with the machine."""
    day, machine = datetime.now(timezone.utc).date().isoformat(), describe_machine()
    write_json(options.out / f"overhead-{day}.json", {"made": day, "machine": machine, **result})
    lines = [
        f"# Overhead beside Ultralytics {result['ultralytics']}, {day}", "",
        f"{result['frames']} frames of {result['video']} at 1280x720, one region, {result['size_px']} px, in"
        f" turns; medians. {machine['cpu']}, {machine['cores']} cores, load {machine['load_average'][0]}.", "",
        "| | overhead, wall ms | processor ms | its p10 | whole frame, wall ms |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for name, row in result["rows"].items():
        lines.append(f"| {name} | " + " | ".join(f"{value:.3f}" for value in row.values()) + " |")
    lines.append("| ratio | " + " | ".join(f"{value:.3f}" for value in result["ratios"].values()) + " | |")
    text = "\n".join([*lines, ""])
    write_text(options.out / f"overhead-{day}.md", text)
    print(text)


def main() -> None:
    """Make Ultralytics' environment, measure in it, report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers.overhead", description=__doc__)
    parser.add_argument("video", metavar="VIDEO")
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=HERE.parent / "results", metavar="DIR")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        write_json(options.inside, measure(options))
        return
    from benchmarks.peers.__main__ import make_environment

    with tempfile.TemporaryDirectory() as folder:
        python, result = make_environment(Path(folder) / "venv"), Path(folder) / "result.json"
        command = [str(python), "-m", "benchmarks.peers.overhead", *sys.argv[1:], "--inside", str(result)]
        quiet = {"YOLO_CONFIG_DIR": folder, "YOLO_VERBOSE": "False", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
        if subprocess.run(command, cwd=ROOT, stdout=sys.stderr, env=os.environ | quiet, check=False).returncode:
            raise InputError("the measurement failed: what it said stands above")
        report(options, json.loads(result.read_text()))


if __name__ == "__main__":
    raise SystemExit(run_command(main))
