"""Ultralytics classify, used as in its manual: train, export to ONNX, predict. Runs in a temporary environment.

Usage: python -m benchmarks.peers.ultralytics_classify JOB.json; writes the row of the table into the job's folder.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from ultralytics import YOLO

from benchmarks.peers.peer_job import PeerJob, PeerRow, compare_files, run_named_job, time_frames, time_training
from core.bundle.contract import Probs
from core.geometry.frame import Bytes

ARCH = "yolov8n-cls.yaml"


def main(job: PeerJob) -> PeerRow:
    """Train from scratch with its defaults, export, and classify the test pictures with both files."""
    data = Path(job.data)
    trained_in = Path(job.out) / "train"
    settings = {
        "data": job.data,
        "project": job.out,
        "name": trained_in.name,
        "exist_ok": True,
        "device": "cpu",
        "imgsz": job.size,
        "epochs": job.epochs,
        "workers": job.workers,
        "seed": job.seed,
        "pretrained": False,
        "plots": False,
        "verbose": False,
    }
    _, spent = time_training(lambda: YOLO(ARCH).train(**settings))
    # it may stop early, so the epochs are counted: a line each, after the heading
    epochs = len((trained_in / "results.csv").read_text().splitlines()) - 1
    best = YOLO(str(trained_in / "weights" / "best.pt"))
    exported = YOLO(best.export(format="onnx", imgsz=job.size), task="classify")
    pictures = []
    labels = []
    # its classes are the folders in alphabetical order
    for number, folder in enumerate(sorted((data / "test").iterdir())):
        for file in sorted(folder.iterdir()):
            # read with OpenCV, as its own predict reads a file
            pictures.append(np.asarray(cv2.imread(str(file))))
            labels.append(number)
    trained = np.stack([classify(best, picture, job.size) for picture in pictures])
    answers = np.stack([classify(exported, picture, job.size) for picture in pictures])
    x0, y0, x1, y1 = job.rect
    images = epochs * sum(1 for _ in (data / "train").rglob("*.jpg"))
    compared = compare_files(np.array(labels), trained, answers)
    frame_ms = time_frames(job, lambda frame: classify(exported, frame[y0:y1, x0:x1], job.size))
    return PeerRow("yolov8n-cls", epochs, images, spent, compared, frame_ms)


def classify(model: YOLO, picture_bgr: Bytes, size: int) -> Probs:
    """Return the probabilities of one picture by Ultralytics' own predict."""
    (result,) = model.predict(picture_bgr, imgsz=size, verbose=False, device="cpu")
    return np.asarray(result.probs.data.cpu().numpy(), np.float32)


if __name__ == "__main__":
    run_named_job(main)
