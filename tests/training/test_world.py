"""Several processes: the same training as one with the same batches, by torchrun and gloo."""

import csv
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import models
from inference.errors import InputError
from inference.pack import open_pack
from models.checkpoint import load
from tests.export.runs import write_pack
from tests.training.joined import steps_of_two, take_steps
from training.batches import Batches
from training.commands.train import main
from training.feed import open_feed
from training.global_norm import GlobalNorm, globalise
from training.recipe import named
from training.state import load_state
from training.world import World

REPOSITORY = Path(__file__).resolve().parents[2]
ARCH = "squeezenet_inspired"
# dropout draws in each process for itself: without it the two trainings are the same
SETTINGS = ["--models", ARCH, "--recipe", "edge", "--epochs", "3", "--batch", "32", "--precision", "fp32",
            "--memory-format", "channels_last", "--threads", "1", "--dropout-squeezenet", "0",
            "--optimizer", "sgd", "--learning-rate", "0.01"]  # fmt: skip  # Adam makes much of a float's last bit


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    path = tmp_path_factory.mktemp("world") / "pack"
    write_pack(path)
    return path


def torchrun(module, *arguments, env=None):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", module]
    return subprocess.run(
        [*command, *map(str, arguments)], cwd=REPOSITORY, env=os.environ | (env or {}), capture_output=True, text=True,
        check=False,
    )  # fmt: skip


def history(run):
    with (run / ARCH / "history.csv").open() as stream:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(stream)]


def test_two_processes_train_as_one_does(pack, tmp_path):
    done = torchrun("training", "train", pack, "--out", tmp_path / "two", *SETTINGS)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("| squeezenet_inspired") == 1  # the first speaks for both
    assert not main([str(pack), "--out", str(tmp_path / "one"), *SETTINGS])
    curves = [
        (two["train_loss"], one["train_loss"])
        for two, one in zip(history(tmp_path / "two"), history(tmp_path / "one"), strict=True)
    ]
    assert curves[0][0] == pytest.approx(curves[0][1], rel=1e-5)
    assert all(
        two == pytest.approx(one, rel=1e-2) for two, one in curves
    )  # each step makes more of the last one's noise
    ours, theirs = (load(tmp_path / name / ARCH / "best.safetensors").weights for name in ("two", "one"))
    assert ours.keys() == theirs.keys()


def test_in_float64_the_steps_of_two_processes_are_those_of_one():
    """What differs in float32 is rounding, which ReLU and Adam make more of: here nothing is left of it."""
    (ours, weights), (theirs, same) = steps_of_two(), take_steps(World())
    assert np.allclose(ours, theirs, rtol=1e-9)
    assert all(np.allclose(weights[name], same[name], rtol=1e-6, atol=1e-9) for name in same)


@pytest.mark.prove
def test_two_processes_that_were_killed_go_on_to_the_same_end(pack, tmp_path):
    settings = SETTINGS[:-2]  # with dropout
    assert torchrun("training", "train", pack, "--out", tmp_path / "whole", *settings).returncode == 0
    assert torchrun("tests.training.killed", "step", 6, pack, "--out", tmp_path / "run", *settings).returncode
    assert not (tmp_path / "run" / ARCH / "metrics.json").exists()
    done = torchrun("training", "train", pack, "--out", tmp_path / "run", *settings, "--resume")
    assert done.returncode == 0, done.stderr
    whole, resumed = (load_state(tmp_path / name / ARCH / "last")[1] for name in ("whole", "run"))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize("n", [4, 5, 32, 33])
def test_parts_make_up_the_batch(n, size):
    parts = [np.arange(n)[World(rank, size).part(n)] for rank in range(size)]
    assert np.array_equal(np.concatenate(parts), np.arange(n))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_the_batch_is_the_same_for_any_number_of_processes(pack):
    opened, recipe = open_pack(pack), replace(named("after"), batch=30)
    feed = open_feed(opened, (0.5, 0.5, 0.5))
    whole = list(Batches(opened, recipe, 0, feed).epoch(1))
    parts = [list(Batches(opened, recipe, 0, feed, World(rank, 4)).epoch(1)) for rank in range(4)]
    assert len(whole) == 4
    for step, (frames, labels) in enumerate(whole):
        assert torch.equal(frames, torch.cat([part[step][0] for part in parts]))
        assert torch.equal(labels, torch.cat([part[step][1] for part in parts]))


def test_a_batch_that_cannot_be_shared_is_one_sentence():
    with pytest.raises(InputError, match=re.escape("batch 32 cannot be shared by 3 processes: give --batch 30")):
        World(1, 3).check_batch(32)


def test_normalisation_over_all_is_batch_norm_and_keeps_its_names(monkeypatch):
    """Of one process; sums over several are all_reduce's."""
    monkeypatch.setattr("torch.distributed.all_reduce", lambda tensor: None)
    plain, ours = (torch.nn.Sequential(torch.nn.BatchNorm2d(3), torch.nn.ReLU()) for _ in range(2))
    globalise(ours, "cpu")
    assert isinstance(ours[0], GlobalNorm)
    x = (torch.randn(8, 3, 5, 5) * 3 + 100).requires_grad_()
    y = x.detach().clone().requires_grad_()
    for network, values in ((plain, x), (ours, y)):
        network(values).square().sum().backward()
    assert torch.allclose(plain(x), ours(y), atol=1e-4)
    assert torch.allclose(x.grad, y.grad, atol=1e-3)
    assert plain.state_dict().keys() == ours.state_dict().keys()
    assert all(torch.allclose(value, ours.state_dict()[name]) for name, value in plain.state_dict().items())


def test_an_activation_that_timm_joins_to_a_normalisation_stays(monkeypatch):
    monkeypatch.setattr("torch.distributed.all_reduce", lambda tensor: None)
    torch.manual_seed(0)
    plain, x = models.build("timm/mobilenetv4_conv_small_035", 3), torch.randn(4, 3, 32, 32)
    torch.manual_seed(0)
    ours = globalise(models.build("timm/mobilenetv4_conv_small_035", 3), "cpu")
    assert plain.state_dict().keys() == ours.state_dict().keys()
    assert torch.allclose(plain.train()(x), ours.train()(x), atol=1e-4)
