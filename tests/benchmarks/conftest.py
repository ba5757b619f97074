"""A run in a few kilobytes, written without torch: two tiny bundles and a pack."""

from __future__ import annotations

import csv
import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.measure.profiles import PROFILES, Profile
from benchmarks.measure.speed import runner_subprocess
from benchmarks.measure.speed.latency import summarize_latency
from benchmarks.report.results_file import read_reports
from benchmarks.results.artifacts import Artifacts
from benchmarks.results.candidate import CandidateResult, NotMeasured
from benchmarks.results.run import MachineFacts, Noise, PackFacts, Protocol, RunResults
from core.bundle import golden_detections
from core.bundle.contract import DETECTOR, Bundle, open_bundle
from core.bundle.golden_detections import GoldenDetections
from core.data.pack import COLUMNS
from core.files import sha256_of_file, write_json
from core.geometry.detector_config import DetectorConfig, DetectorInput
from core.geometry.preprocess import Geometry
from core.stats import Interval
from tests.bundles import CLASSES, make_bundle
from tests.export import fake_trt
from tests.inference.runner.test_region_choice import write_detector

COLORS = ((190, 80, 80), (80, 190, 80), (80, 80, 190))
WEIGHTS = {
    "tiny_a": np.eye(3, dtype=np.float32) * np.float32(0.03),
    "tiny_b": np.array([[1, 0, 0.2], [0.4, 1, 0], [0, 0.3, 1]], np.float32) * np.float32(0.03),
}
"""tiny_a tells the colors apart, tiny_b mixes them a little."""


BUSY = ("--budget-ms", "10000", "--threads", "1")
"""On a shared machine even a tiny network misses 33 ms at times, and any thread count may be the best."""
SMALL = Profile(corrupted_rows=(3, 3), severities=(1,), ood_images=2)
CHEAP = [*BUSY, "--backends", "trt", "--demo"]


@pytest.fixture
def runtime(monkeypatch):
    """A fake TensorRT and device; the car's own command runs in a process that has neither, and is left out."""
    monkeypatch.setitem(PROFILES, "demo", SMALL)
    monkeypatch.setattr(runner_subprocess, "measure_cold_start", lambda *_: 1.0)
    monkeypatch.setattr(runner_subprocess, "measure_ages", lambda *_: np.ones(662))
    return fake_trt.put_here(monkeypatch, fake_trt.make("10.3.0"))


def engines_in(folder):
    """Return {name: sha256} of the engines of a bundle."""
    return {file.name: sha256_of_file(file) for file in (folder / "engines").glob("*.engine")}


def why_not(run):
    """Return the reason for which the first candidate of a benchmarked run cannot be chosen."""
    return read_reports(run / "report" / "results.json")[0].results.candidates[0].why_not


def make_pack(path: Path, *, size_px: int = 32, rows_per_class: int = 20, noise: int = 90, seed: int = 0) -> Path:
    """Write a pack of red, green and blue squares, with enough noise that the best network makes mistakes."""
    rng = np.random.default_rng(seed)
    labels = [i for i in range(len(CLASSES)) for _ in range(rows_per_class)]
    images = np.stack(
        [
            np.clip(np.array(COLORS[label]) + rng.integers(-noise, noise + 1, 3), 0, 255)
            * np.ones((size_px, size_px, 1))
            for label in labels
        ]
    ).astype(np.uint8)
    images[:, 0, 0] = rng.integers(0, 256, (len(labels), 3))  # no row is symmetric under a flip or a channel swap
    path.mkdir(parents=True)
    np.save(path / "images.npy", images)
    with (path / "rows.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        for i, label in enumerate(labels):
            split = "train" if i % 10 == 9 else "test"
            writer.writerow([i, CLASSES[label], split, f"g{i}", f"{i}.png", ""])
    body = {
        "schema": 1,
        "classes": list(CLASSES),
        "background": "clear",
        "geometry": Geometry(size_px).as_json(),
        "synthetic": True,
        "fingerprint": hashlib.sha256(images.tobytes()).hexdigest(),
    }
    write_json(path / "pack.json", body)
    return path


def make_tiny_bundle(path: Path, arch: str, precisions: tuple[str, ...]) -> None:
    """Write a bundle whose network is WEIGHTS[arch]."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.bundles.tiny_weights", lambda classes, scale=1.0: WEIGHTS[arch])
        make_bundle(path, precisions=precisions)


def add_detector(bundle: Path, *boxes: tuple[float, ...], every: int = 1) -> Bundle:
    """Put a detector into a bundle that finds these boxes, in pixels of 64 x 96, in every picture."""
    write_detector(bundle / DETECTOR, *boxes)
    frame = np.random.default_rng(0).integers(60, 200, (64, 96, 3), np.uint8)
    rows_n6 = np.array(boxes, np.float32)
    GoldenDetections((frame,), rows_n6, np.zeros(len(boxes), np.int32)).save(bundle / golden_detections.NAME)
    old, config = open_bundle(bundle), DetectorConfig("yolo_end2end", DetectorInput(), ("car",), every=every)
    with_detector = replace(old.with_files([*old.files, DETECTOR, golden_detections.NAME]), detector=config)
    with_detector.save()
    return with_detector


def make_run(
    path: Path, archs: tuple[str, ...] = ("tiny_a", "tiny_b"), precisions: tuple[str, ...] = ("fp32", "int8")
) -> Path:
    """Write a run folder with a pack and one bundle an architecture."""
    from core.data.pack import open_pack

    pack = open_pack(make_pack(path / "pack"))
    for arch in archs:
        make_tiny_bundle(path / arch / "bundle", arch, precisions)
    write_json(path / "run.json", {"schema": 1, "pack": {"path": "pack", "fingerprint": pack.fingerprint}})
    return path


@pytest.fixture
def run_folder(tmp_path):
    return make_run(tmp_path / "runs" / "tiny")


@pytest.fixture
def small_run(tmp_path):
    """A run of one bundle with one precision, which is the quickest to measure."""
    return make_run(tmp_path / "runs" / "small", ("tiny_a",), ("fp32",))


@pytest.fixture(scope="session")
def measured_run(tmp_path_factory):
    """A run that was measured once for the whole session; read it, do not change it."""
    from benchmarks.commands import measure

    path = make_run(tmp_path_factory.mktemp("measured") / "runs" / "tiny")
    assert measure.main([str(path), "--backends", "ort", "--quick", *BUSY]) == 0
    return path


def result_of(arch="a", precision="fp32", backend="ort", threads=1, *, times_ms=None, **figures):
    """Return the result of a candidate with these frame times; other values are not measured unless given."""
    times_ms = np.ones((4, 8)) if times_ms is None else times_ms
    figures = {"accuracy": NotMeasured("not asked"), "why_not": "", **figures}
    latency = summarize_latency(times_ms, times_ms)
    opened = {"file": f"model.{precision}.onnx"}
    return CandidateResult(arch, precision, backend, threads, 32, 1000, opened, latency, **figures)


def results_of(*rows, labels_n=(0, 1, 2), **parts):
    """Return the results of a run with these candidates."""
    machine = MachineFacts("box", "cpu", 1, 1.0, "Linux", "x86_64", "3.11", {}, "", (0.0, 0.0, 0.0))
    noise = Noise("a", Interval(1, 1), Interval(1, 1), 0.0)
    parts = {"seeds": NotMeasured("one"), "sustained": NotMeasured("no"), "artifacts": Artifacts({}, {}, ()), **parts}
    return RunResults(
        "2026-01-01", "run", True, machine, PackFacts("f", CLASSES, None), np.array(labels_n),
        Protocol("synthetic://", 8, 1, (), {}), noise, tuple(rows), (), (), **parts,
    )  # fmt: skip
