"""timm with torchvision's loader, and ONNX Runtime after it: the usual hand-made road.

Usage: python -m benchmarks.peers.timm_ort JOB.json; writes the row of the table to the job's `result`.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
import onnxruntime as ort
import timm
import torch
from PIL import Image
from timm.data.transforms_factory import create_transform
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder

ARCH, BATCH, RATE = "resnet18", 64, 1e-3


def main(job: dict[str, Any]) -> dict[str, Any]:
    """Train from scratch, export, and classify the test pictures with torch and with ONNX Runtime."""
    torch.manual_seed(job["seed"])
    data, size, file = Path(job["data"]), job["size"], Path(job["out"]) / "model.onnx"
    started, epochs, spent = perf_counter(), job["epochs"], sum(os.times()[:4])
    network = train(data, size, epochs, job["workers"])
    seconds, spent = perf_counter() - started, sum(os.times()[:4]) - spent
    network.eval()
    torch.onnx.export(network, (torch.zeros(1, 3, size, size),), str(file), input_names=["x"], dynamo=True)
    session = ort.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    transform = create_transform(size, is_training=False, crop_pct=1.0)
    test = ImageFolder(str(data / "test"), transform)
    inputs = [test[i][0][None] for i in range(len(test))]
    with torch.inference_mode():
        trained = np.concatenate([network(x).softmax(1).numpy() for x in inputs])
    exported = np.concatenate([softmax(session.run(None, {"x": x.numpy()})[0]) for x in inputs])
    times, frame_cpu_ms = time_frames(session, transform, np.load(job["frames"]), job["rect"])
    return {
        "network": ARCH,
        "epochs": epochs,
        "train_seconds": seconds,
        "cpu_seconds": spent,
        "n": len(test),
        "images_per_s": epochs * len(ImageFolder(str(data / "train"))) / seconds,
        "accuracy": float((exported.argmax(1) == test.targets).mean()),
        "agreement": float((exported.argmax(1) == trained.argmax(1)).mean()),
        "max_dprob": float(np.abs(exported - trained).max()),
        "frame_p50_ms": float(np.median(times)),
        "frame_p99_ms": float(np.quantile(times, 0.99)),
        "frame_cpu_ms": frame_cpu_ms,
    }


def train(data: Path, size: int, epochs: int, workers: int) -> Any:
    """Train with timm's own augmentation, AdamW and a cosine; return the network that was best on val."""
    folder = ImageFolder(str(data / "train"), create_transform(size, is_training=True, auto_augment=None))
    held = ImageFolder(str(data / "val"), create_transform(size, is_training=False, crop_pct=1.0))
    loader = DataLoader(
        folder, BATCH, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=workers > 0
    )
    network = timm.create_model(ARCH, pretrained=False, num_classes=len(folder.classes))
    optimiser = torch.optim.AdamW(network.parameters(), RATE, weight_decay=0.05)
    best, weights = -1.0, network.state_dict()
    for done in range(epochs):
        network.train()
        for step, (x, y) in enumerate(loader):
            part = (done + step / len(loader)) / epochs
            optimiser.param_groups[0]["lr"] = RATE * (0.5 + 0.5 * float(np.cos(np.pi * part)))
            loss = torch.nn.functional.cross_entropy(network(x), y, label_smoothing=0.1)
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
        accuracy = score(network, held)
        if accuracy > best:
            best, weights = accuracy, {k: v.clone() for k, v in network.state_dict().items()}
    network.load_state_dict(weights)
    return network


def score(network: Any, held: Any) -> float:
    """Return the accuracy on a split."""
    network.eval()
    with torch.inference_mode():
        return float(np.mean([(network(x).argmax(1) == y).float().mean() for x, y in DataLoader(held, BATCH)]))


def softmax(logits: Any) -> Any:
    """Return the probabilities of logits (n, classes)."""
    parts = np.exp(logits - logits.max(1, keepdims=True))
    return parts / parts.sum(1, keepdims=True)


def time_frames(session: Any, transform: Any, frames: Any, rect: list[int]) -> tuple[list[float], float]:
    """Return milliseconds from a BGR frame to its probabilities (PIL, the eval transform, the session), and CPU ms."""
    x0, y0, x1, y1 = rect
    times, started_cpu = [], 0.0
    for i in range(-20, 300):
        frame = frames[i % len(frames)]
        started_cpu = process_time() if i <= 0 else started_cpu
        before = perf_counter()
        picture = Image.fromarray(np.ascontiguousarray(frame[y0:y1, x0:x1, ::-1]))
        softmax(session.run(None, {"x": transform(picture)[None].numpy()})[0])
        times += [(perf_counter() - before) * 1000] if i >= 0 else []
    return times, (process_time() - started_cpu) * 1000 / len(times)


if __name__ == "__main__":
    JOB = json.loads(Path(sys.argv[1]).read_text())
    Path(JOB["result"]).write_text(json.dumps(main(JOB)))
