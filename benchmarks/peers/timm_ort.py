"""timm with torchvision's loader, then ONNX Runtime: the usual pipeline of a few scripts.

Usage: python -m benchmarks.peers.timm_ort JOB.json; writes the row of the table into the job's folder.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import timm
import torch
from PIL import Image
from scipy.special import softmax
from timm.data.transforms_factory import create_transform
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder

from benchmarks.peers.peer_job import PeerJob, PeerRow, compare_files, run_named_job, time_frames, time_training
from core.bundle.contract import Probs
from core.geometry.frame import Bytes

ARCH, BATCH, RATE = "resnet18", 64, 1e-3


def main(job: PeerJob) -> PeerRow:
    """Train from scratch, export, and classify the test pictures with torch and with ONNX Runtime."""
    torch.manual_seed(job.seed)
    data = Path(job.data)
    file = Path(job.out) / "model.onnx"
    network, spent = time_training(lambda: train(data, job))
    network.eval()
    example = torch.zeros(1, 3, job.size, job.size)
    torch.onnx.export(network, (example,), str(file), input_names=["x"], dynamo=True)
    session = ort.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    transform = create_transform(job.size, is_training=False, crop_pct=1.0)
    test = ImageFolder(str(data / "test"), transform)
    # prepared once, so that torch and the exported file get the same pixels
    inputs = [test[i][0][None] for i in range(len(test))]
    with torch.inference_mode():
        trained = np.concatenate([network(x).softmax(1).numpy() for x in inputs])
    exported = np.concatenate([classify(session, x) for x in inputs])
    x0, y0, x1, y1 = job.rect

    def answer(frame_bgr: Bytes) -> Probs:
        picture = Image.fromarray(np.ascontiguousarray(frame_bgr[y0:y1, x0:x1, ::-1]))
        return classify(session, transform(picture)[None])

    images = job.epochs * len(ImageFolder(str(data / "train")))
    files = compare_files(np.array(test.targets), trained, exported)
    return PeerRow(ARCH, job.epochs, images, spent, files, time_frames(job, answer))


def train(data: Path, job: PeerJob) -> torch.nn.Module:
    """Train with timm's own augmentation, AdamW and a cosine; return the network that was best on val."""
    folder = ImageFolder(str(data / "train"), create_transform(job.size, is_training=True, auto_augment=None))
    held = ImageFolder(str(data / "val"), create_transform(job.size, is_training=False, crop_pct=1.0))
    loader = DataLoader(
        folder, BATCH, shuffle=True, drop_last=True, num_workers=job.workers, persistent_workers=job.workers > 0
    )
    network = timm.create_model(ARCH, pretrained=False, num_classes=len(folder.classes))
    optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=0.05)
    best, weights = -1.0, network.state_dict()
    for done in range(job.epochs):
        network.train()
        for step, (x, y) in enumerate(loader):
            part = (done + step / len(loader)) / job.epochs
            optimizer.param_groups[0]["lr"] = RATE * (0.5 + 0.5 * float(np.cos(np.pi * part)))
            loss = torch.nn.functional.cross_entropy(network(x), y, label_smoothing=0.1)
            optimizer.zero_grad()
            torch.autograd.backward(loss)  # as loss.backward(), which has no type
            optimizer.step()
        accuracy = score(network, held)
        if accuracy > best:
            best = accuracy
            weights = {k: v.clone() for k, v in network.state_dict().items()}
    network.load_state_dict(weights)
    return network


def score(network: torch.nn.Module, held: ImageFolder) -> float:
    """Return the accuracy on a split."""
    network.eval()
    with torch.inference_mode():
        parts = [(network(x).argmax(1) == y).float().mean() for x, y in DataLoader(held, BATCH)]
        return float(np.mean(parts))


def classify(session: ort.InferenceSession, inputs: torch.Tensor) -> Probs:
    """Return the probabilities of a batch by the exported file, (n, classes)."""
    logits = session.run(None, {"x": inputs.numpy()})[0]
    return np.asarray(softmax(logits, axis=1), np.float32)


if __name__ == "__main__":
    run_named_job(main)
