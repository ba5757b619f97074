"""Our own tools by their commands: train, export, and the file that ships through the car's frame step.

Usage: python -m benchmarks.peers.ours JOB.json; writes the row of the table into the job's folder.
"""

from __future__ import annotations

import math
import subprocess
import sys
from itertools import count
from pathlib import Path

from benchmarks.measure.accuracy import predict
from benchmarks.measure.artifacts import read_history
from benchmarks.measure.candidates import Candidate
from benchmarks.measure.measured_set import open_side_by_side
from benchmarks.measure.speed.latency import frame_at
from benchmarks.peers.peer_job import FileComparison, PeerJob, PeerRow, run_named_job, time_frames, time_training
from core.bundle.contract import UNSIGNED_INT8, open_bundle
from core.bundle.parity_file import read_parity
from core.data.run_dir import folder_name, open_run


def main(job: PeerJob) -> PeerRow:
    """Pack, train and export one network; measure its int8 file on ONNX Runtime, its fp32 file where there is none."""
    folder = Path(job.out) / "run"
    packed = str(folder / "pack")
    group = ["--group", job.group] if job.group else []
    run_stage("training", "pack", job.data, "--out", packed, "--size", str(job.size), *group)
    recipe = ["--recipe", job.recipe, "--epochs", str(job.epochs), "--seed", str(job.seed)]
    train = ["train", packed, "--out", str(folder), "--models", job.arch, *recipe]
    _, spent = time_training(lambda: run_stage("training", *train))
    run_stage("export", str(folder), "--engines")  # without a name: no engine is built
    network = folder / folder_name(job.arch)
    bundle = open_bundle(network / "bundle")
    pack = open_run(folder).open_pack()
    # what the production choice takes without a measurement
    precision = "int8" if "int8" in bundle.precisions else "fp32"
    epochs = len(read_history(network / "history.csv")["epoch"])
    labels_n = pack.labels_n[pack.rows("test")]
    candidate = Candidate(network.name, precision, "ort", 1, bundle)
    # one candidate, so one processor
    with open_side_by_side([candidate]) as (((_, processor),), _):
        hits = predict(processor.classifier, pack).argmax(1) == labels_n
        ids = count()
        frame_ms = time_frames(job, lambda frame_bgr: processor.process(frame_at(next(ids), frame_bgr)))
    form = UNSIGNED_INT8 if precision == "int8" else "fp32"
    parities = {(parity.name, parity.split): parity for parity in read_parity(bundle.path)}
    parity = parities[form, "test"]
    max_dprob = math.nan if parity.max_dprob is None else parity.max_dprob
    files = FileComparison(len(hits), float(hits.mean()), parity.top1_agreement, max_dprob)
    images = epochs * len(pack.rows("train"))
    name = f"{job.arch}, {job.recipe}, {precision}"
    return PeerRow(name, epochs, images, spent, files, frame_ms)


def run_stage(package: str, *arguments: str) -> None:
    """Run one of our commands; its output goes to stderr."""
    subprocess.run([sys.executable, "-m", package, *arguments], check=True, stdout=sys.stderr)


if __name__ == "__main__":
    run_named_job(main)
