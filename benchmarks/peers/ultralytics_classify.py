"""Ultralytics classify, as its manual says: train, export to ONNX, predict. Runs in a temporary environment.

Usage: python ultralytics_classify.py JOB.json; writes the row of the table to the job's `result`.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import cv2
import numpy as np
from ultralytics import YOLO

ARCH = "yolov8n-cls.yaml"


def main(job: dict[str, Any]) -> dict[str, Any]:
    """Train from scratch with its defaults, export, and classify the test pictures with both files."""
    data, out = Path(job["data"]), Path(job["out"])
    started, spent = perf_counter(), sum(os.times()[:4])
    trained = YOLO(ARCH)
    trained.train(
        data=str(data), imgsz=job["size"], pretrained=False, device="cpu", workers=job["workers"], seed=job["seed"],
        project=str(out), name="train", exist_ok=True, plots=False, verbose=False, epochs=job["epochs"],
    )  # fmt: skip
    seconds, spent = perf_counter() - started, sum(os.times()[:4]) - spent
    epochs = sum(1 for _ in (out / "train" / "results.csv").open()) - 1
    best = YOLO(str(out / "train" / "weights" / "best.pt"))
    exported = YOLO(best.export(format="onnx", imgsz=job["size"]), task="classify")
    names = sorted(folder.name for folder in (data / "test").iterdir())
    files = [(file, names.index(folder)) for folder in names for file in sorted((data / "test" / folder).iterdir())]
    probs = {
        what: np.stack([say(model, cv2.imread(str(f)), job["size"]) for f, _ in files])
        for what, model in (("trained", best), ("exported", exported))
    }
    labels = np.array([label for _, label in files])
    frames, (x0, y0, x1, y1) = np.load(job["frames"]), job["rect"]
    times, started_cpu = [], 0.0
    for i in range(-20, 300):
        frame = frames[i % len(frames)]
        started_cpu = process_time() if i <= 0 else started_cpu
        before = perf_counter()
        say(exported, frame[y0:y1, x0:x1], job["size"])
        times += [(perf_counter() - before) * 1000] if i >= 0 else []
    frame_cpu_ms = (process_time() - started_cpu) * 1000 / len(times)
    return {
        "network": "yolov8n-cls",
        "epochs": epochs,
        "train_seconds": seconds,
        "cpu_seconds": spent,
        "n": len(labels),
        "images_per_s": epochs * sum(1 for _ in (data / "train").rglob("*.jpg")) / seconds,
        "accuracy": float((probs["exported"].argmax(1) == labels).mean()),
        "agreement": float((probs["exported"].argmax(1) == probs["trained"].argmax(1)).mean()),
        "max_dprob": float(np.abs(probs["exported"] - probs["trained"]).max()),
        "frame_p50_ms": float(np.median(times)),
        "frame_p99_ms": float(np.quantile(times, 0.99)),
        "frame_cpu_ms": frame_cpu_ms,
    }


def say(model: Any, picture_bgr: Any, size: int) -> Any:
    """Return the probabilities of one picture, through its own predict."""
    return model.predict(picture_bgr, imgsz=size, verbose=False, device="cpu")[0].probs.data.cpu().numpy()


if __name__ == "__main__":
    JOB = json.loads(Path(sys.argv[1]).read_text())
    Path(JOB["result"]).write_text(json.dumps(main(JOB)))
