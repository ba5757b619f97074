"""Augmentation on the device against that on the CPU: the same numbers give the same pictures."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp

from tests.training.augment.test_cpu import AFTER, ERASED, SIZE, images, only, statistics
from training.augment.cpu import Augmentation
from training.augment.cpu import augment as on_cpu
from training.augment.gpu import augment as on_device
from training.augment.params import draw
from training.recipes import named

__all__ = ["images"]
MEAN = (0.485, 0.456, 0.406)
OPERATIONS = {
    "nothing": ({}, 0.0),
    "flip": ({"flip_p": 0.5}, 0.0),
    "rotation": ({"rotation_deg": 60}, 0.5),
    "affine": ({"translate": 0.2, "scale_min": 0.7, "scale_max": 1.3}, 0.7),
    "perspective": ({"perspective": 0.5, "perspective_p": 0.7}, 0.7),
    "brightness": ({"brightness": 0.8}, 0.1),
    "contrast": ({"contrast": 0.8}, 0.1),
    "saturation": ({"saturation": 0.8}, 0.1),
    "hue": ({"hue": 0.5}, 1.5),
    "grey": ({"grayscale_p": 0.5}, 0.1),
    "erasing": ({"erase_p": 0.7}, 0.0),
    "linear jitter in every order": ({"brightness": 0.6, "contrast": 0.6, "saturation": 0.6}, 0.2),
    "rotation and jittered fill": ({"rotation_deg": 30, "brightness": 0.6, "contrast": 0.6}, 0.7),
}


@pytest.fixture(autouse=True)
def one_thread():
    """Small pictures: where cores are busy, two threads wait for each other 30 times as long as one works."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_is_the_cpus(images, name):
    images = images[:96]
    fields, tolerance = OPERATIONS[name]
    draws = draw(only(**fields), len(images), SIZE, np.random.default_rng(0))
    expected = on_cpu(images, draws, ERASED).astype(int)
    made = on_device(torch.from_numpy(images), draws, torch.from_numpy(ERASED)).numpy()
    assert (made.dtype, made.shape) == (np.uint8, images.shape)
    assert np.abs(made - expected).mean() <= tolerance
    assert abs((made - expected).mean()) <= max(tolerance / 3, 0.05) if tolerance else True


@pytest.mark.parametrize("name", ["before", "after"])
def test_a_recipe_is_the_cpus(images, name):
    images = images[:96]
    recipe = named(name)
    draws = draw(recipe, len(images), SIZE, np.random.default_rng(0))
    expected = on_cpu(images, draws, ERASED).astype(int)
    made = on_device(torch.from_numpy(images), draws, torch.from_numpy(ERASED)).numpy().astype(int)
    assert np.abs(made - expected).mean() < 2
    assert np.percentile(np.abs(made - expected), 99) < 30


def drawn_on_device(recipe, frames, seed):
    draws = draw(recipe, len(frames), SIZE, np.random.default_rng(seed))
    return on_device(frames, draws, torch.from_numpy(ERASED))


def test_other_numbers_give_the_same_distribution(images):
    batch = images[np.arange(768) % len(images)]
    ours = statistics(Augmentation(AFTER, SIZE, MEAN)(batch, np.random.default_rng(2)))
    theirs = statistics(drawn_on_device(AFTER, torch.from_numpy(batch), 3).numpy())
    wrong = {key: p for key in ours if (p := ks_2samp(ours[key], theirs[key]).pvalue) < 1e-3}
    assert not wrong


def test_the_frames_given_are_not_changed(images):
    frames = torch.from_numpy(images[:32].copy())
    drawn_on_device(dataclasses.replace(AFTER, erase_p=1), frames, 0)
    assert np.array_equal(frames.numpy(), images[:32])
