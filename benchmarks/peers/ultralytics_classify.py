"""Ultralytics classify, as its manual says: train, export to ONNX, predict. Runs in a temporary environment.

Usage: python -m benchmarks.peers.ultralytics_classify JOB.json; writes the row of the table to the job's `result`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from ultralytics import YOLO

from benchmarks.peers.job import compare_files, run, time_frames, time_training

ARCH = "yolov8n-cls.yaml"


def main(job: dict[str, Any]) -> dict[str, Any]:
    """Train from scratch with its defaults, export, and classify the test pictures with both files."""
    data, out = Path(job["data"]), Path(job["out"])
    options = {"imgsz": job["size"], "epochs": job["epochs"], "workers": job["workers"], "seed": job["seed"]}
    options |= {"project": str(out), "name": "train", "exist_ok": True, "plots": False, "verbose": False}
    _, spent = time_training(lambda: YOLO(ARCH).train(data=str(data), pretrained=False, device="cpu", **options))
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
    x0, y0, x1, y1 = job["rect"]
    images = epochs * sum(1 for _ in (data / "train").rglob("*.jpg"))
    return {
        "network": "yolov8n-cls",
        "epochs": epochs,
        **spent,
        "images_per_s": images / spent["train_seconds"],
        **compare_files(labels, probs["trained"], probs["exported"]),
        **time_frames(job, lambda frame: say(exported, frame[y0:y1, x0:x1], job["size"])),
    }


def say(model: Any, picture_bgr: Any, size: int) -> Any:
    """Return the probabilities of one picture, through its own predict."""
    return model.predict(picture_bgr, imgsz=size, verbose=False, device="cpu")[0].probs.data.cpu().numpy()


if __name__ == "__main__":
    run(main)
