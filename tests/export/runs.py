"""A small real run for the export tests: a pack, and checkpoints of a network that is trained in a second."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import torch
from torch import nn

import models
from core.data.pack import COLUMNS, open_pack
from core.geometry.preprocess import Geometry
from models.checkpoint import Checkpoint, CheckpointMetadata

CLASSES = ("red", "green", "blue")
SIZE_PX = 32
ARCH = "squeezenet_inspired"


def write_small_pack(path: Path, rows: int = 240, seed: int = 0) -> None:
    """Write a pack of coloured noise: the class is the strongest channel, easy but not certain."""
    random = np.random.default_rng(seed)
    labels = np.arange(rows) % len(CLASSES)
    images = random.integers(0, 200, (rows, 8, 8, 3)).astype(np.int64)
    images[np.arange(rows), :, :, labels] += random.integers(10, 80, (rows, 1, 1))
    images = np.clip(images, 0, 255).astype(np.uint8).repeat(4, axis=1).repeat(4, axis=2)
    path.mkdir(parents=True)
    np.save(path / "images.npy", images)
    splits = ["train", "calibration", "val", "test"]
    with (path / "rows.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        for row in range(rows):
            split = splits[row // len(CLASSES) % 4]
            writer.writerow([row, CLASSES[labels[row]], split, f"g{row}", f"{row}.png", ""])
    facts = {
        "schema": 1,
        "classes": list(CLASSES),
        "background": None,
        "geometry": Geometry(SIZE_PX).as_json(),
        "synthetic": False,
        "fingerprint": f"colours-{seed}",
    }
    (path / "pack.json").write_text(json.dumps(facts), encoding="utf-8")


def train(pack_path: Path, arch: str = ARCH, steps: int = 25) -> Checkpoint:
    """Train a network of `arch` on the pack for a few steps of Adam; return its checkpoint."""
    torch.manual_seed(0)
    pack = open_pack(pack_path)
    network = models.build(arch, len(pack.classes), size_px=pack.geometry.size_px)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in models.normalization(arch))
    rows = pack.rows("train")
    inputs = (torch.from_numpy(pack.images_nhwc[rows]).permute(0, 3, 1, 2) / 255 - mean) / std
    labels = torch.from_numpy(pack.labels_n[rows])
    optimiser = torch.optim.Adam(network.parameters(), 1e-3)
    for _ in range(steps):
        chosen = torch.randint(len(rows), (32,))
        loss = nn.functional.cross_entropy(network(inputs[chosen]), labels[chosen])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    facts = CheckpointMetadata(
        arch=arch,
        classes=pack.classes,
        background=None,
        geometry=pack.geometry,
        mean=tuple(models.normalization(arch)[0]),
        std=tuple(models.normalization(arch)[1]),
        recipe={},
        metrics={
            "val": {"accuracy": 0.0},
            "epoch": 0,
            "abstention": {"risk_wanted": 0.05, "threshold": 0.4, "risk": 0.0, "coverage": 1.0},
        },
        temperature=1.25,
        abstain_threshold=0.4,
        pack_path=str(pack_path),
        pack_fingerprint=pack.fingerprint,
        synthetic=False,
        seed=0,
        commit="0" * 40,
    )
    return Checkpoint(facts, network.state_dict())


def write_run(path: Path, pack_path: Path, checkpoints: list[Checkpoint]) -> None:
    """Write a run folder that holds these checkpoints."""
    path.mkdir(parents=True)
    fingerprint = open_pack(pack_path).fingerprint
    run = {"schema": 1, "pack": {"path": str(pack_path), "fingerprint": fingerprint}}
    run["models"] = [checkpoint.metadata.arch for checkpoint in checkpoints]
    (path / "run.json").write_text(json.dumps(run), encoding="utf-8")
    for checkpoint in checkpoints:
        folder = path / checkpoint.metadata.arch.replace("/", "_")
        checkpoint.save(folder / "best.safetensors")
        (folder / "metrics.json").write_text("{}", encoding="utf-8")
