"""Our own road through its commands: train, export, and the file that ships through the car's path.

Usage: python -m benchmarks.peers.ours JOB.json; writes the row of the table to the job's `result`.
"""

from __future__ import annotations

import subprocess
import sys
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks.measure.accuracy import predict
from benchmarks.measure.artifacts import read_history
from benchmarks.measure.candidates import Candidate
from benchmarks.measure.measured_set import open_side_by_side
from benchmarks.measure.speed.latency import frame_at
from benchmarks.peers.job import run, time_frames, time_training
from core.bundle.contract import open_bundle
from core.data.run_dir import folder_name, open_run
from core.files import read_json


def main(job: dict[str, Any]) -> dict[str, Any]:
    """Pack, train and export one network; measure its int8 file on ONNX Runtime, its fp32 file where there is none."""
    folder, arch, size = Path(job["out"]) / "run", job["arch"], str(job["size"])
    group = ["--group", job["group"]] if job.get("group") else []
    call("training", "pack", job["data"], "--out", str(folder / "pack"), "--size", size, *group)
    recipe = ["--recipe", job["recipe"], "--epochs", str(job["epochs"]), "--seed", str(job["seed"])]
    train = ["train", str(folder / "pack"), "--out", str(folder), "--models", arch, *recipe]
    _, spent = time_training(lambda: call("training", *train))
    call("export", str(folder), "--engines")
    network = folder / folder_name(arch)
    bundle = open_bundle(network / "bundle")
    precision = "int8" if "int8" in bundle.precisions else "fp32"
    epochs = len(read_history(network / "history.csv")["epoch"])
    pack = open_run(folder).open_pack()
    with open_side_by_side([Candidate(network.name, precision, "ort", 1, bundle)]) as (opened, _):
        processor, ids = opened[0][1], count()
        hits = predict(processor.classifier, pack).correct_n
        frame_ms = time_frames(job, lambda frame_bgr: processor.process(frame_at(next(ids), frame_bgr)))
    form = "int8 ort" if precision == "int8" else "fp32"
    rungs = read_json(network / "bundle" / "parity.json")["rungs"]
    rung = next(r for r in rungs if r["name"] == form and r["split"] == "test")
    return {
        "network": f"{arch}, {job['recipe']}, {precision}",
        "epochs": epochs,
        **spent,
        "n": len(hits),
        "images_per_s": epochs * len(pack.rows("train")) / spent["train_seconds"],
        "accuracy": float(hits.mean()),
        "agreement": rung["top1_agreement"],
        "max_dprob": rung["max_dprob"],
        **frame_ms,
    }


def call(room: str, *arguments: str) -> None:
    """Run one of our commands; what it says goes to stderr."""
    subprocess.run([sys.executable, "-m", room, *arguments], check=True, stdout=sys.stderr)


if __name__ == "__main__":
    run(main)
