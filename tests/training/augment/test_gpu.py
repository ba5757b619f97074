"""Augmentation on the device against its plain twin, to the bit, and against that on the CPU, to a few levels."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp

from tests.training.augment.plain_gpu import augment as plain
from tests.training.augment.test_cpu import AFTER, ERASED, SIZE, images, only, statistics
from training.augment.cpu import Augmentation
from training.augment.cpu import augment as on_cpu
from training.augment.gpu import COLUMN_GROUPS, augment, pack_params
from training.augment.params import AugmentParams, sample_params
from training.recipes import load_recipe

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


def on_device(frames: torch.Tensor, params: AugmentParams) -> torch.Tensor:
    return augment(frames, torch.from_numpy(pack_params(params)), torch.from_numpy(ERASED).float())


@pytest.mark.parametrize("name", ["before", "after", "edge"])
def test_a_recipes_images_are_those_of_the_plain_twin_to_the_bit(images, name):
    frames = torch.from_numpy(images)
    for seed in range(3):
        params = sample_params(load_recipe(name), len(images), SIZE, np.random.default_rng(seed))
        expected = plain(frames, params, torch.from_numpy(ERASED).float())
        assert not torch.equal(expected, frames)
        assert torch.equal(on_device(frames, params), expected)


def test_the_parameters_of_a_batch_are_one_float32_array():
    packed = pack_params(sample_params(AFTER, 5, SIZE, np.random.default_rng(0)))
    assert (packed.dtype, packed.shape) == (np.float32, (5, sum(COLUMN_GROUPS)))
    assert packed.flags.c_contiguous


def test_no_branch_depends_on_data(images):
    """Dynamo refuses a whole graph whose Python asks for a value of a tensor, as capture on a GPU does."""
    params = sample_params(AFTER, 4, SIZE, np.random.default_rng(0))
    given = torch.from_numpy(images[:4]), torch.from_numpy(pack_params(params)), torch.from_numpy(ERASED).float()
    whole = torch.compile(augment, backend="eager", fullgraph=True, dynamic=False)
    assert torch.equal(whole(*given), augment(*given))


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_is_the_cpus(images, name):
    images = images[:96]
    fields, tolerance = OPERATIONS[name]
    params = sample_params(only(**fields), len(images), SIZE, np.random.default_rng(0))
    expected = on_cpu(images, params, ERASED).astype(int)
    made = on_device(torch.from_numpy(images), params).numpy()
    assert (made.dtype, made.shape) == (np.uint8, images.shape)
    assert np.abs(made - expected).mean() <= tolerance
    assert abs((made - expected).mean()) <= max(tolerance / 3, 0.05) if tolerance else True


@pytest.mark.parametrize("name", ["before", "after"])
def test_a_recipe_is_the_cpus(images, name):
    images = images[:96]
    recipe = load_recipe(name)
    params = sample_params(recipe, len(images), SIZE, np.random.default_rng(0))
    expected = on_cpu(images, params, ERASED).astype(int)
    made = on_device(torch.from_numpy(images), params).numpy().astype(int)
    assert np.abs(made - expected).mean() < 2
    assert np.percentile(np.abs(made - expected), 99) < 30


def sampled_on_device(recipe, frames, seed):
    params = sample_params(recipe, len(frames), SIZE, np.random.default_rng(seed))
    return on_device(frames, params)


def test_other_numbers_give_the_same_distribution(images):
    batch = images[np.arange(768) % len(images)]
    ours = statistics(Augmentation(AFTER, SIZE, MEAN)(batch, np.random.default_rng(2)))
    theirs = statistics(sampled_on_device(AFTER, torch.from_numpy(batch), 3).numpy())
    wrong = {key: p for key in ours if (p := ks_2samp(ours[key], theirs[key]).pvalue) < 1e-3}
    assert not wrong


def test_the_frames_given_are_not_changed(images):
    frames = torch.from_numpy(images[:32].copy())
    sampled_on_device(dataclasses.replace(AFTER, erase_p=1), frames, 0)
    assert np.array_equal(frames.numpy(), images[:32])
