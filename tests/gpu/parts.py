"""The parts of the check. Each runs the project's own commands and yields its figures by name.

A part fails by CheckError, in one sentence; the figures that it yielded before stay in the result file.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.report.results_file import read_reports
from core.codec import to_json
from core.errors import CheckError
from core.files import write_json
from inference.backends import availability

ROOT = Path(__file__).parents[2]
DETECTOR = ROOT.parent / "shared" / "data" / "detector" / "yolox_nano.onnx"
VIDEO = ROOT.parent / "shared" / "data" / "video" / "road_960x540.mp4"
TESTS = "tests/gpu"
Figures = Iterator[tuple[str, Any]]
PROTOTYPE_SHARE = 0.85


@dataclass(frozen=True)
class Extent:
    """The amount of work of each part."""

    data: str
    archs: tuple[str, ...]
    bench_sizes_px: tuple[int, ...]
    """Sides of the pictures whose training speed is measured."""
    batch: int
    steps: int
    """Steps that are timed; the hours of the published job are extrapolated from them."""
    rounds: int
    """Times that each side is timed, in turns, where two are compared."""
    train_size_px: int
    epochs: int
    backends_size_px: int
    """Input size of the bundle that every backend opens."""


WHOLE = Extent(
    "synthetic", ("mobilenet_inspired", "squeezenet_inspired", "resnet_inspired"), (64, 224), 128, 300, 2, 64, 30, 224
)
DRY = Extent("synthetic://?rows=300", ("squeezenet_inspired",), (32,), 8, 2, 1, 32, 1, 32)
"""The extent on the CPU: enough to test the check itself; its figures mean nothing."""


@dataclass(frozen=True)
class Work:
    """The arguments of every part."""

    device: str
    folder: Path
    """A temporary folder for runs and reports."""
    extent: Extent
    prototype: Prototype | None = None


@dataclass(frozen=True)
class Prototype:
    """A prototype of the training step, which the project does not ship, and the project whose modules it imports."""

    file: Path
    project: Path


def run_tests(work: Work) -> Figures:
    """Run the tests of this folder on the device, by plain pytest: no plug-in is loaded."""
    report = work.folder / "tests.xml"
    plain = ["-c", f"{TESTS}/plain.ini", "--rootdir", str(ROOT), "--confcutdir", TESTS, "--junitxml", str(report)]
    started = perf_counter()
    environment = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "REARGUARD_DEVICE": work.device, "OMP_NUM_THREADS": "1"}
    run_module("pytest", *plain, TESTS, codes=(0, 1), environment=environment)
    cases = [_case(case) for case in ET.parse(report).iter("testcase")]
    yield "seconds", _since(started)
    yield "tests", cases
    if failed := [case for case in cases if case["result"] == "failed"]:
        raise CheckError(f"{len(failed)} of {len(cases)} tests failed, first {failed[0]['name']}: {failed[0]['why']}")


def measure_speed(work: Work) -> Figures:
    """Measure the training speed of the whole loop and of the step alone, images/s, and the hours of a large job."""
    for size_px in work.extent.bench_sizes_px:
        yield f"{size_px} px", _bench(work, size_px)
        if work.device != "cpu":
            yield f"{size_px} px compiled", _bench(work, size_px, "--compile")


def compare_with_prototype(work: Work) -> Figures:
    """Measure the whole loop in turns with a prototype's; fail below PROTOTYPE_SHARE of its images/s."""
    if work.prototype is None:
        yield "not measured", "name the prototype by --prototype FILE and the project it imports by --project DIR"
        return
    lowest = math.inf
    for size_px in work.extent.bench_sizes_px:
        ours, theirs = [], []
        for _ in range(work.extent.rounds):
            ours.append(_bench(work, size_px, *(["--compile"] if work.device != "cpu" else []))["images_per_s"])
            theirs.append(_time_prototype(work, work.prototype, size_px))
        for arch in work.extent.archs:
            pairs = [(mine[arch], other[arch]) for mine, other in zip(ours, theirs, strict=True)]
            ratio = statistics.median(mine / other for mine, other in pairs)
            yield f"{size_px} px {arch}", {"ratio": round(ratio, 3), "images_per_s, ours and prototype": pairs}
            lowest = min(lowest, ratio)
    if lowest < PROTOTYPE_SHARE:
        raise CheckError(f"the loop reaches {lowest:.0%} of the prototype's images/s: {PROTOTYPE_SHARE:.0%} are wanted")


def train(work: Work) -> Figures:
    """Train all networks by `edge`, from the data to the leaderboard, as a user would."""
    yield "data", work.extent.data
    yield "size_px", work.extent.train_size_px
    yield "epochs", work.extent.epochs
    started = perf_counter()
    run = _train(work, "trained", work.extent.train_size_px, work.extent.archs)
    yield "seconds", _since(started)
    for row in json.loads((run / "leaderboard.json").read_text(encoding="utf-8")):
        kept = {name: row[name] for name in ("mode", "seconds", "images_per_s", "peak_memory_mb")}
        yield row["arch"], kept | {f"{split}_accuracy": row[split]["accuracy"] for split in ("val", "test")}


def try_backends(work: Work) -> Figures:
    """Export one network; measure it at batch 1 and verify it on every available backend."""
    arch, size_px = work.extent.archs[0], work.extent.backends_size_px
    yield "arch", arch
    yield "size_px", size_px
    yield "doctor", json.loads(run_module("inference", "doctor", "--json"))
    run = _train(work, "exported", size_px, (arch,), "--precision", "fp32", "--memory-format", "channels_last")
    printed = run_module("export", run, "--json", codes=(0, 1))  # 1: a precision whose gate failed is left out
    (exported,) = json.loads(printed)
    yield "export", {name: exported.get(name) for name in ("failed", "engines", "mib")}
    if exported["bundle"] is None:
        raise CheckError(f"no bundle was exported: {exported['failed'][0]}")
    report = run / "report" / "results.json"
    run_module("benchmarks", run, "--quick", "--threads", 1, codes=(0, 1), leaves=report)  # 1: none fits the policy
    (device,) = read_reports(report)
    latencies = {row.name: row.latency for row in device.results.candidates}
    yield (
        "latency",
        {
            name: to_json({"frame_ms": times.frame_ms, "engine_ms": times.engine_ms})
            for name, times in latencies.items()
        },
    )
    yield "not_measured", to_json(device.results.unmeasured)
    lines = json.loads(run_module("inference", "verify", exported["bundle"], "--json", codes=(0, 1)))
    yield "verify", lines
    if failed := [line for line in lines if line["result"] == "failed"]:
        raise CheckError(f"{len(failed)} checks of the bundle failed, first {failed[0]['what']}: {failed[0]['detail']}")


def try_detector(work: Work) -> Figures:
    """Put a detector in front: build its engine, run its golden frames on every backend, and time it there in turns."""
    if not DETECTOR.is_file():
        yield "not measured", f"there is no {DETECTOR}"
        return
    from tests.bundles import make_bundle  # here, since it needs onnx and the other parts do not

    run = work.folder / "detector"
    bundle = make_bundle(run / "tiny" / "bundle", background=None).path
    write_json(run / "run.json", {"schema": 1, "pack": {"path": "pack", "fingerprint": ""}})
    run_module("export", "add-detector", run, DETECTOR, "--frames", VIDEO)
    on_trt = availability("trt").available
    if on_trt:
        yield "built", json.loads(run_module("inference", "build", bundle / "detector.onnx", "--json"))
    checks = json.loads(run_module("inference", "verify", bundle, "--json", codes=(0, 1)))
    lines = [line for line in checks if "detector" in line["what"]]
    yield "verify", lines
    # each line says at first which backend it is about
    passed = sorted({line["what"].split()[0] for line in lines if ": " in line["what"] and line["result"] == "passed"})
    times: dict[str, list[float]] = {name: [] for name in passed}
    for name in passed * work.extent.rounds:
        arguments = ["--source", VIDEO, "--backend", "ort", "--detector-backend", name, "--frames", work.extent.steps]
        summary = json.loads(run_module("inference", "run", bundle, *arguments, "--json"))
        times[name].append(summary["stages_ms"]["detect"]["p50"])
    yield "detect_ms, median of a frame, in turns", times
    if failed := [line for line in lines if line["result"] == "failed"]:
        raise CheckError(f"{failed[0]['what']}: {failed[0]['detail']}")
    if on_trt and "trt" not in passed:
        raise CheckError(f"no golden frame of the detector ran on trt: {lines}")


PARTS: dict[str, Callable[[Work], Figures]] = {
    "tests": run_tests,
    "speed": measure_speed,
    "prototype": compare_with_prototype,
    "train": train,
    "backends": try_backends,
    "detector": try_detector,
}


def run_module(
    module: str,
    *arguments: object,
    codes: Collection[int] = (0,),
    leaves: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Run `python -m MODULE ARGUMENTS`, or a .py file, in the repository's root; return its stdout, show its stderr.

    Raises CheckError with the last line of its stderr when its exit code is none of `codes`; or when it is not 0 and
    there is no result: nothing on stdout, or with `leaves` no such file.
    """
    command = [sys.executable, *([] if module.endswith(".py") else ["-m"]), module, *map(str, arguments)]
    last_line = ""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as stdout:
        with subprocess.Popen(
            command, cwd=ROOT, env=os.environ | (environment or {}), stdout=stdout, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stderr
            for line in process.stderr:
                print(line, end="", file=sys.stderr, flush=True)
                last_line = line.strip() or last_line
        stdout.seek(0)
        printed = stdout.read()
    result = leaves.exists() if leaves else bool(printed)
    if process.returncode not in codes or (process.returncode and not result):
        raise CheckError(f"python -m {module} ended with {process.returncode}: {last_line or 'it printed no reason'}")
    return printed


def _bench(work: Work, size_px: int, *more: str) -> dict[str, Any]:
    extent = work.extent
    arguments = ["--size", size_px, "--batch", extent.batch, "--steps", extent.steps, "--models", *extent.archs, *more]
    printed = run_module("training", "bench", "--loop-only", "--json", "--device", work.device, *arguments)
    loop: dict[str, Any] = json.loads(printed)["loop"]
    return loop


def _time_prototype(work: Work, prototype: Prototype, size_px: int) -> dict[str, float]:
    extent = work.extent
    printed = run_module(
        f"{TESTS}/prototype.py", prototype.file, size_px, extent.batch, extent.steps, *extent.archs,
        environment={"PROJECT": str(prototype.project)},
    )  # fmt: skip
    rates: dict[str, float] = json.loads(printed)
    return rates


def _train(work: Work, name: str, size_px: int, archs: tuple[str, ...], *more: str) -> Path:
    run, extent = work.folder / name, work.extent
    arguments = ["--size", size_px, "--epochs", extent.epochs, "--device", work.device, "--models", *archs, *more]
    run_module("training", "train", work.extent.data, "--out", run, "--recipe", "edge", *arguments)
    return run


def _case(case: ET.Element) -> dict[str, Any]:
    """Return one test of pytest's report."""
    found = {"name": case.get("name"), "seconds": float(case.get("time", 0)), "result": "passed", "why": ""}
    for tag, result in (("failure", "failed"), ("error", "failed"), ("skipped", "skipped")):
        if (outcome := case.find(tag)) is not None:
            found |= {"result": result, "why": str(outcome.get("message")).splitlines()[0]}
    return found


def _since(started: float) -> float:
    return round(perf_counter() - started, 1)
