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
from core.data.pack import open_pack
from core.errors import InputError
from models.checkpoint import load_checkpoint
from models.sync_norm import synchronize_batch_norm
from tests.export.runs import write_small_pack
from tests.training.compute.joined import ARCH, steps_of_two, take_steps
from tests.training.learner import finished
from training.augment.prepare import open_preparer
from training.batches import Batches
from training.commands.train import main, parse
from training.compute.distribution import DistContext
from training.recipes import load_recipe
from training.run.begin import begin_run
from training.state import read_state

REPOSITORY = Path(__file__).resolve().parents[3]
FOLDER = ARCH.replace("/", "_")
SETTINGS = ["--models", ARCH, "--recipe", "edge", "--epochs", "3", "--batch", "32", "--precision", "fp32",
            "--memory-format", "channels_last", "--threads", "1", "--start-size", "1",
            "--optimizer", "sgd", "--learning-rate", "0.01"]  # fmt: skip  # Adam makes much of a float's last bit
NO_DROPOUT = ["--dropout", "0"]
"""Dropout draws in each process for itself: without it the trainings of one and of two are the same."""


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    path = tmp_path_factory.mktemp("world") / "pack"
    write_small_pack(path)
    return path


def torchrun(module, *arguments, env=None):
    # --standalone takes a port that is free; the default is one port for every training of a machine
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"]
    command += ["--nproc-per-node", "2", "-m", module]
    return subprocess.run(
        [*command, *map(str, arguments)], cwd=REPOSITORY, env=os.environ | (env or {}), capture_output=True, text=True,
        check=False,
    )  # fmt: skip


def history(run):
    with (run / FOLDER / "history.csv").open() as stream:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(stream)]


def test_two_processes_train_as_one_does(pack, tmp_path):
    done = torchrun("training", "train", pack, "--out", tmp_path / "two", *SETTINGS, *NO_DROPOUT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(f"| {ARCH}") == 1  # the first speaks for both
    assert not main([str(pack), "--out", str(tmp_path / "one"), *SETTINGS, *NO_DROPOUT])
    curves = [
        (shared["train_loss"], alone["train_loss"])
        for shared, alone in zip(history(tmp_path / "two"), history(tmp_path / "one"), strict=True)
    ]
    assert curves[0][0] == pytest.approx(curves[0][1], rel=1e-5)
    assert all(
        shared == pytest.approx(alone, rel=1e-2) for shared, alone in curves
    )  # each step makes more of the last one's noise
    ours, theirs = (load_checkpoint(tmp_path / name / FOLDER / "best.safetensors").weights for name in ("two", "one"))
    assert ours.keys() == theirs.keys()


def test_in_float64_the_steps_of_two_processes_are_those_of_one(tmp_path):
    """What differs in float32 is rounding, which ReLU and Adam make more of: here nothing is left of it."""
    (ours, weights), (theirs, same) = steps_of_two(tmp_path / "meeting"), take_steps(DistContext())
    assert np.allclose(ours, theirs, rtol=1e-9)
    assert all(np.allclose(weights[name], same[name], rtol=1e-6, atol=1e-9) for name in same)


@pytest.mark.prove
def test_two_processes_that_were_killed_go_on_to_the_same_end(pack, tmp_path):
    assert torchrun("training", "train", pack, "--out", tmp_path / "whole", *SETTINGS).returncode == 0
    assert torchrun("tests.training.killed", "step", 6, pack, "--out", tmp_path / "run", *SETTINGS).returncode
    assert not (tmp_path / "run" / FOLDER / "metrics.json").exists()
    done = torchrun("training", "train", pack, "--out", tmp_path / "run", *SETTINGS, "--resume")
    assert done.returncode == 0, done.stderr
    whole, resumed = (read_state(tmp_path / name / FOLDER / "last")[1] for name in ("whole", "run"))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize("n", [4, 5, 32, 33])
def test_parts_make_up_the_batch(n, size):
    parts = [np.arange(n)[DistContext(rank, size).shard(n)] for rank in range(size)]
    assert np.array_equal(np.concatenate(parts), np.arange(n))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_the_batch_is_the_same_for_any_number_of_processes(pack):
    opened, recipe = open_pack(pack), replace(load_recipe("after"), batch=30)
    preparer = open_preparer(opened, (0.5, 0.5, 0.5))
    whole = finished(Batches(opened, recipe, 0, preparer), 1)
    parts = [finished(Batches(opened, recipe, 0, preparer, DistContext(rank, 4)), 1) for rank in range(4)]
    assert len(whole) == 4
    for step, batch in enumerate(whole):
        assert torch.equal(batch.frames_nhwc, torch.cat([part[step].frames_nhwc for part in parts]))
        assert torch.equal(batch.labels_n, torch.cat([part[step].labels_n for part in parts]))
        assert {batch.image_count, *(part[step].image_count for part in parts)} == {len(batch.labels_n)}


def test_a_batch_that_cannot_be_shared_is_one_sentence():
    with pytest.raises(InputError, match=re.escape("batch 32 cannot be shared by 3 processes: give --batch 30")):
        DistContext(1, 3).check_batch(32)


def test_batch_normalisation_is_refused_on_several_cpus_before_anything_is_written(pack, tmp_path):
    asked = [str(pack), "--out", str(tmp_path / "run"), "--device", "cpu", "--models", ARCH, "squeezenet_inspired"]
    with pytest.raises(InputError, match=r"squeezenet_inspired has batch normalization.*without torchrun"):
        begin_run(parse(asked), DistContext(0, 2))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("arch", ["squeezenet_inspired", "timm/mobilenetv4_conv_small_035"])
def test_synchronised_normalisation_keeps_names_and_joined_activations(arch):
    """One process; timm joins the activation to the normalisation, and torch's own conversion loses it."""
    torch.manual_seed(0)
    plain, x = models.build(arch, 3, dropout=0.0), torch.randn(4, 3, 32, 32)
    torch.manual_seed(0)
    ours = synchronize_batch_norm(models.build(arch, 3, dropout=0.0))
    kinds = {type(layer).__name__ for layer in ours.modules()}
    assert kinds & {"SyncBatchNorm", "SyncBatchNormAct"}
    assert not kinds & {"BatchNorm2d", "BatchNormAct2d"}
    assert list(plain.state_dict()) == list(ours.state_dict())
    assert torch.allclose(plain.train()(x), ours.train()(x), atol=1e-4)
