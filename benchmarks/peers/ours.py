"""Our own road through its commands: train, export, and the file that ships through the car's path.

Usage: python -m benchmarks.peers.ours JOB.json; writes the row of the table to the job's `result`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np

from benchmarks.measure.accuracy import predict
from benchmarks.measure.artifacts import read_history
from benchmarks.measure.candidates import Candidate
from benchmarks.measure.measured_set import open_field
from core.bundle.contract import open_bundle
from core.data.run_dir import folder_name, open_run
from core.files import read_json


def main(job: dict[str, Any]) -> dict[str, Any]:
    """Pack, train and export one network; measure its int8 file on ONNX Runtime, its fp32 file where there is none."""
    run, arch, size = Path(job["out"]) / "run", job["arch"], str(job["size"])
    group = ["--group", job["group"]] if job.get("group") else []
    call("training", "pack", job["data"], "--out", str(run / "pack"), "--size", size, *group)
    started, spent = perf_counter(), spent_s()
    recipe = ["--recipe", job["recipe"], "--epochs", str(job["epochs"]), "--seed", str(job["seed"])]
    call("training", "train", str(run / "pack"), "--out", str(run), "--models", arch, *recipe)
    seconds, spent = perf_counter() - started, spent_s() - spent
    call("export", str(run), "--engines")
    folder = run / folder_name(arch)
    bundle = open_bundle(folder / "bundle")
    precision = "int8" if "int8" in bundle.precisions else "fp32"
    epochs = len(read_history(folder / "history.csv")["epoch"])
    pack = open_run(run).open_pack()
    with open_field([Candidate(folder.name, bundle, precision, "ort", 1)]) as (opened, _):
        path, started_cpu = opened[0][1], 0.0
        hits = predict(path.pipeline, pack).correct_n
        frames, times = np.load(job["frames"]), []
        for i in range(-20, 300):
            started_cpu = process_time() if i <= 0 else started_cpu  # the first 20 are not counted
            before = perf_counter()
            path.answer(frames[i % len(frames)])
            times += [(perf_counter() - before) * 1000] if i >= 0 else []
        frame_cpu_ms = (process_time() - started_cpu) * 1000 / len(times)
    form = "int8 ort" if precision == "int8" else "fp32"
    rungs = read_json(folder / "bundle" / "parity.json")["rungs"]
    rung = next(r for r in rungs if r["name"] == form and r["split"] == "test")
    return {
        "network": f"{arch}, {job['recipe']}, {precision}",
        "epochs": epochs,
        "train_seconds": seconds,
        "cpu_seconds": spent,
        "n": len(hits),
        "images_per_s": epochs * len(pack.rows("train")) / seconds,
        "accuracy": float(hits.mean()),
        "agreement": rung["top1_agreement"],
        "max_dprob": rung["max_dprob"],
        "frame_p50_ms": float(np.median(times)),
        "frame_p99_ms": float(np.quantile(times, 0.99)),
        "frame_cpu_ms": frame_cpu_ms,
    }


def spent_s() -> float:
    """Return the processor seconds of the processes that were started and waited for."""
    return sum(os.times()[2:4])


def call(room: str, *arguments: str) -> None:
    """Run one of our commands; what it says goes to stderr."""
    subprocess.run([sys.executable, "-m", room, *arguments], check=True, stdout=sys.stderr, env=os.environ)


if __name__ == "__main__":
    JOB = json.loads(Path(sys.argv[1]).read_text())
    Path(JOB["result"]).write_text(json.dumps(main(JOB)))
