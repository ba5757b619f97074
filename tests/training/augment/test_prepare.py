"""Augmentation on the device inside the loop: the same batches as on the host, from a resident pack or not."""

import dataclasses

import numpy as np
import pytest
import torch

from core.data.pack import open_pack
from core.data.run_dir import open_run
from tests.export.runs import write_small_pack
from tests.training.learner import finished
from training.augment import cpu as augment
from training.augment import prepare
from training.augment.prepare import DeviceAugment, HostAugment, load_resident
from training.batches import Batches
from training.commands.train import main
from training.recipes import load_recipe

MEAN = (0.485, 0.456, 0.406)
RECIPE = dataclasses.replace(load_recipe("after"), batch=32)


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    path = tmp_path_factory.mktemp("feed") / "pack"
    write_small_pack(path)
    return open_pack(path)


def batches(pack, feed):
    return finished(Batches(pack, RECIPE, 3, feed), 2)


def test_the_device_makes_the_batches_of_the_host(pack):
    for (ours, labels, _), (theirs, same, _) in zip(
        batches(pack, DeviceAugment(pack, MEAN, "cpu")), batches(pack, HostAugment(pack, MEAN)), strict=True
    ):
        assert torch.equal(labels, same)
        assert (ours.int() - theirs.int()).abs().float().mean() < 3


def test_a_resident_pack_gives_the_same_batches(pack, monkeypatch):
    monkeypatch.setattr(prepare, "ROWS_PER_COPY", 7)
    resident = load_resident(pack, "cpu")
    assert np.array_equal(resident.numpy(), pack.images_nhwc)
    for (ours, *_), (theirs, *_) in zip(
        batches(pack, DeviceAugment(pack, MEAN, "cpu", resident)),
        batches(pack, DeviceAugment(pack, MEAN, "cpu")),
        strict=True,
    ):
        assert torch.equal(ours, theirs)


def test_training_can_augment_on_the_device(pack, tmp_path, monkeypatch):
    monkeypatch.setattr(augment, "augment", lambda *_: pytest.fail("augmented on the host"))
    settings = ["--models", "squeezenet_inspired", "--recipe", "edge", "--epochs", "1", "--batch", "32", "--precision",
                "fp32", "--memory-format", "channels_last", "--threads", "1", "--augment-on", "device"]  # fmt: skip
    assert not main([str(pack.path), "--out", str(tmp_path / "run"), *settings])
    assert open_run(tmp_path / "run").metadata["augment_on"] == "device"


def test_on_a_cpu_the_host_augments_unless_told():
    assert prepare.choose_place("auto", "cpu") == "host"
    assert prepare.choose_place("auto", "cuda:0") == "device"
    assert prepare.choose_place("device", "cpu") == "device"


def test_a_shrunk_pixel_is_the_mean_of_those_it_covers():
    frames = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
    small = prepare.shrink(torch.from_numpy(frames), 8).numpy()
    assert small.dtype == np.uint8
    means = frames.reshape(3, 8, 2, 8, 2, 3).mean((2, 4))
    assert np.abs(small - means).max() <= 0.5


def test_early_epochs_have_small_images_and_the_same_labels(pack):
    recipe = dataclasses.replace(RECIPE, start_size=0.5, full_size_at=0.5, epochs=4)
    size_px = pack.geometry.size_px
    for epoch, side in ((0, size_px // 2), (2, size_px)):
        of = finished(Batches(pack, recipe, 3, HostAugment(pack, MEAN)), epoch)
        full = finished(Batches(pack, RECIPE, 3, HostAugment(pack, MEAN)), epoch)
        for (frames, labels, _), (_, same, _) in zip(of, full, strict=True):
            assert frames.shape[1:] == (side, side, 3)
            assert torch.equal(labels, same)
