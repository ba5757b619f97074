"""Training on the device gives what it gives on the CPU. `make gpu-check` runs these on a GPU, the suite where it is.

They need torch, NumPy and plain pytest. What cuDNN leaves undetermined is allowed for: no test asks for equal bits.
"""

from __future__ import annotations

import csv
import dataclasses
import os
import signal

import numpy as np
import pytest
import torch

import models
from core.data.pack import open_pack
from models.checkpoint import load_checkpoint
from models.deployed import DeployedNetwork
from tests.export.runs import write_small_pack
from tests.training.learner import Learner, Training, finished, record_operations
from training import capture
from training import step as steps_of
from training.augment import gpu, prepare
from training.augment.params import sample_params
from training.batches import Batches
from training.commands.train import main
from training.compute.mode import ComputeMode
from training.recipes import load_recipe

ARCH = "squeezenet_inspired"
RECIPE = dataclasses.replace(load_recipe("edge"), batch=16)
SETTINGS = ["--models", ARCH, "--recipe", "edge", "--epochs", "2", "--batch", "16", "--precision", "fp32",
            "--memory-format", "channels_last", "--threads", "1", "--optimizer", "sgd",
            "--learning-rate", "0.01"]  # fmt: skip  # Adam makes much of a float's last bit
MEAN = models.normalization(ARCH)[0]


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    path = tmp_path_factory.mktemp("gpu") / "pack"
    write_small_pack(path, rows=120)
    return open_pack(path)


@pytest.fixture(scope="module")
def batch(pack):
    rows = pack.rows("train")[:16]
    return torch.from_numpy(pack.images_nhwc[rows]), torch.from_numpy(pack.labels_n[rows])


def mean_difference(ours, theirs):
    return (ours.cpu().int() - theirs.cpu().int()).abs().float().mean()


@pytest.mark.parametrize("name", ["before", "after", "edge"])
def test_the_device_augments_as_the_cpu_does(device, batch, name):
    params = sample_params(load_recipe(name), len(batch[0]), batch[0].shape[1], np.random.default_rng(0))
    packed = torch.from_numpy(gpu.pack_params(params))
    erased = (torch.tensor(MEAN) * 255).round()
    here = gpu.augment(batch[0], packed, erased)
    there = gpu.augment(batch[0].to(device), packed.to(device), erased.to(device))
    assert there.device.type == torch.device(device).type
    assert mean_difference(there, here) < 0.1


@pytest.mark.parametrize("resident", [True, False])
def test_a_pack_on_the_device_gives_the_batches_of_the_host(device, pack, resident, monkeypatch):
    """Resident where it fits; else read from the memory-mapped file and, for a GPU, sent from pinned memory."""
    monkeypatch.setattr(prepare, "_fits", lambda *_: resident)
    ours = finished(Batches(pack, RECIPE, 3, prepare.open_preparer(pack, MEAN, device, "device")), 1, device)
    theirs = finished(Batches(pack, RECIPE, 3, prepare.HostAugment(pack, MEAN)), 1)
    for (frames, labels, _), (same, expected, _) in zip(ours, theirs, strict=True):
        assert torch.equal(labels.cpu(), expected)
        assert mean_difference(frames, same) < 3


def test_a_step_is_that_of_the_cpu(device, batch):
    recipe = dataclasses.replace(RECIPE, dropout={"default": 0.0}, optimizer="sgd")
    totals, weights = [], []
    for where in (device, "cpu"):
        learner = Learner(ARCH, 3, recipe, ComputeMode("fp32", "channels_last"), device=where)
        totals.append([learner.step(*batch, 1e-2, step).cpu() for step in range(3)])
        weights.append(torch.cat([p.detach().cpu().flatten() for p in learner.state.network.parameters()]))
    assert torch.allclose(torch.stack(totals[0])[:, 0], torch.stack(totals[1])[:, 0], rtol=1e-2)
    assert torch.allclose(*weights, atol=1e-2)


@pytest.fixture
def capture_anywhere(device, monkeypatch):
    if device == "cpu":
        monkeypatch.setattr(capture, "graph_recorder", lambda: record_operations)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_replayed_steps_are_plain_steps(device, pack, capture_anywhere, optimizer):
    """Dropout, augmentation, two sides of the images and a smaller last batch of each: four graphs."""
    recipe = dataclasses.replace(RECIPE, optimizer=optimizer, epochs=4)
    captured, plain = (Training(pack, recipe, captured, device) for captured in (True, False))
    ours, theirs = captured.losses([0, 3]).cpu(), plain.losses([0, 3]).cpu()
    assert len(captured.take.recorded) == 4
    assert torch.allclose(ours[:, 0], theirs[:, 0], rtol=2e-2)


def test_a_captured_training_resumes(device, pack, capture_anywhere, tmp_path):
    whole, resumed = (Training(pack, RECIPE, True, device) for _ in range(2))
    whole.losses([0])
    whole.state.save(tmp_path)
    resumed.state.load(tmp_path)
    assert torch.allclose(resumed.losses([1]), whole.losses([1]), rtol=2e-2)


def test_uploaded_batches_are_those_of_the_host(device, pack, monkeypatch):
    """Two are in use at a time: none is overwritten before its step has read it."""
    if device == "cpu":
        pytest.skip("there is no stream to copy on")
    monkeypatch.setattr(prepare, "_fits", lambda *_: False)
    preparer = prepare.open_preparer(pack, MEAN, device, "device")
    assert preparer.streams_frames
    batches, kept = Batches(pack, RECIPE, 3, preparer), []
    for batch in capture.upload(batches.prepare_epoch(1), device):
        kept.append([tensor.clone() for tensor in batch.tensors])
    for ours, theirs in zip(kept, batches.prepare_epoch(1), strict=True):
        assert all(torch.equal(mine.cpu(), other) for mine, other in zip(ours, theirs.tensors, strict=True))


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_restored_learner_takes_the_same_step(device, batch, precision):
    first, other = (Learner(ARCH, 3, RECIPE, ComputeMode(precision), seed=seed, device=device) for seed in (0, 9))
    for step in range(4):
        first.step(*batch, 1e-3, step)
    other.state.restore(first.state.tensors())
    totals = [learner.step(*batch, 1e-3, 4).cpu() for learner in (first, other)]
    assert totals[0].isfinite().all()
    assert torch.allclose(*totals, rtol=1e-3)
    ours, theirs = first.state.tensors(), other.state.tensors()
    assert ours.keys() == theirs.keys()
    assert all(torch.allclose(ours[name].float(), theirs[name].float(), atol=1e-2) for name in ours)


@pytest.fixture(scope="module")
def run(device, pack):
    """A run that nothing disturbed."""
    out = pack.path.parent / "whole"
    assert not main([str(pack.path), "--out", str(out), *SETTINGS, "--device", device])
    return out


def losses(run):
    with (run / ARCH / "history.csv").open() as stream:
        return [float(row["train_loss"]) for row in csv.DictReader(stream)]


def test_a_stopped_training_goes_on_to_the_same_end(device, pack, run, tmp_path, monkeypatch):
    step, steps = steps_of.train_step, []

    def stopping(*values):
        steps.append(1)
        if len(steps) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        step(*values)

    monkeypatch.setattr(steps_of, "train_step", stopping)
    arguments = [str(pack.path), "--out", str(tmp_path / "run"), *SETTINGS, "--device", device]
    assert main(arguments) == 128 + signal.SIGTERM
    assert not main([*arguments, "--resume"])
    assert losses(tmp_path / "run") == pytest.approx(losses(run), rel=0.05)


def test_a_checkpoint_of_the_device_answers_the_same_on_the_cpu(device, pack, run):
    frames = torch.from_numpy(pack.images_nhwc[pack.rows("test")])
    checkpoint = load_checkpoint(run / ARCH / "best.safetensors")
    with torch.inference_mode():
        there, here = (checkpoint.build_network().to(where)(frames.to(where)).cpu() for where in (device, "cpu"))
    assert isinstance(checkpoint.build_network(), DeployedNetwork)
    assert torch.allclose(there.softmax(1), here.softmax(1), atol=1e-2)  # TF32 has ten bits
