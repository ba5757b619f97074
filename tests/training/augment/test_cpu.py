"""Augmentation against torchvision: each operation by the same numbers, the whole recipes by their distributions."""

from __future__ import annotations

import dataclasses
import random

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import chisquare, ks_2samp
from torchvision import transforms
from torchvision.transforms import functional as plain
from torchvision.transforms.functional import InterpolationMode

from training.augment.cpu import Augmentation, augment
from training.augment.params import AugmentParams, sample_params
from training.bench.data_speed import MEAN, STD, baseline_transform
from training.recipe import Recipe
from training.recipes import load_recipe

BILINEAR = InterpolationMode.BILINEAR
SIZE = 48
ERASED = np.round(np.array(MEAN) * 255).astype(np.uint8)
STILL = dict.fromkeys(
    ("flip_p", "rotation_deg", "brightness", "contrast", "saturation", "hue", "translate", "perspective_p"), 0
) | {"scale_min": 1, "scale_max": 1, "grayscale_p": 0, "erase_p": 0, "perspective": 0}
AFTER = load_recipe("after")


def only(**fields: float) -> Recipe:
    """Return a recipe that does nothing but this."""
    return dataclasses.replace(AFTER, **(STILL | fields))


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    """256 smooth, reddish pictures, some dull: uint8 (n, S, S, 3) RGB. Of even hues a turn could not be seen."""
    random = np.random.default_rng(5)
    coarse = (random.integers(0, 256, (256, 5, 5, 3)) * [1, 0.6, 0.4]).astype(np.uint8)
    pictures = np.stack([cv2.resize(c, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC) for c in coarse])
    dullness = random.uniform(0, 1, (256, 1, 1, 1))
    grey = pictures.mean(3, keepdims=True)
    return np.round(grey + dullness * (pictures.astype(float) - grey)).astype(np.uint8)


def both(images: np.ndarray, params: AugmentParams, operate) -> tuple[np.ndarray, np.ndarray]:
    """Return ours and torchvision's of the same params; `operate(pil, i)` is torchvision's."""
    expected = [np.asarray(operate(Image.fromarray(image), i)) for i, image in enumerate(images)]
    return augment(images, params, ERASED).astype(int), np.stack(expected).astype(int)


def test_nothing_drawn_is_nothing_changed(images):
    made = Augmentation(only(), SIZE, MEAN)(images, np.random.default_rng(0))
    assert np.array_equal(made, images)
    assert not np.shares_memory(made, images)


def test_the_same_random_numbers_give_the_same_pixels(images):
    augmentation = Augmentation(AFTER, SIZE, MEAN)
    first, second, other = (augmentation(images, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("size", [33, 48])
def test_a_flip_is_exact(images, size):
    batch = np.ascontiguousarray(images[:, :size, :size])
    assert np.array_equal(Augmentation(only(flip_p=1), size, MEAN)(batch, np.random.default_rng(0)), batch[:, :, ::-1])


@pytest.mark.parametrize("size", [33, 48])
def test_a_rotation_is_torchvisions(images, size):
    batch = np.ascontiguousarray(images[:, :size, :size])
    params = sample_params(only(rotation_deg=60), len(batch), size, np.random.default_rng(0))
    ours, theirs = both(batch, params, lambda image, i: plain.rotate(image, params.angle_n[i], BILINEAR))
    assert np.abs(ours - theirs).mean() < 2.5  # at the edge ours is blended with the fill, torchvision's is jagged
    assert abs(ours.mean() - theirs.mean()) < 0.8  # Pillow cuts half a level off


@pytest.mark.parametrize("fields", [{"translate": 0.3}, {"scale_min": 0.5, "scale_max": 1.5}])
def test_an_affine_is_torchvisions(images, fields):
    params = sample_params(only(**fields), len(images), SIZE, np.random.default_rng(0))

    def operate(image: Image.Image, i: int) -> Image.Image:
        shift = params.shift_n2[i].astype(int).tolist()
        return plain.affine(image, 0, shift, params.scale_n[i], [0, 0], BILINEAR)

    ours, theirs = both(images, params, operate)
    assert np.abs(ours - theirs).mean() < 2
    assert abs(ours.mean() - theirs.mean()) < 0.5


def test_a_perspective_is_torchvisions(images):
    params = sample_params(only(perspective=0.5, perspective_p=1), len(images), SIZE, np.random.default_rng(0))
    start = [[0, 0], [SIZE - 1, 0], [SIZE - 1, SIZE - 1], [0, SIZE - 1]]
    ours, theirs = both(
        images, params, lambda image, i: plain.perspective(image, start, params.corners_n42[i].tolist(), BILINEAR)
    )
    assert np.abs(ours - theirs).mean() < 2
    assert abs(ours.mean() - theirs.mean()) < 0.5


ADJUST = (plain.adjust_brightness, plain.adjust_contrast, plain.adjust_saturation, plain.adjust_hue)


@pytest.mark.parametrize("names", [["brightness"], ["contrast"], ["saturation"], ["hue"], ["brightness", "hue"], []])
def test_a_jitter_is_torchvisions_in_the_order_drawn_and_clipped_at_each_step(images, names):
    wanted = dict.fromkeys(names or ["brightness", "contrast", "saturation"], 0.9) | {"hue": 0.5 * (names != [])}
    fields = {name: value for name, value in wanted.items() if name in names or not names}
    params = sample_params(only(**fields), len(images), SIZE, np.random.default_rng(0))

    def operate(image: Image.Image, i: int) -> Image.Image:
        for step in params.order_n4[i]:
            image = ADJUST[step](image, params.factors_n4[i, step])
        return image

    ours, theirs = both(images, params, operate)
    assert np.abs(ours - theirs).mean() < 2
    assert np.abs(ours.mean((1, 2)) - theirs.mean((1, 2))).max() < 4


def test_a_hue_turns_the_hue_angle_and_keeps_value_and_saturation(images):
    params = sample_params(only(hue=0.25), len(images), SIZE, np.random.default_rng(0))
    before, after = (
        np.stack([cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2HSV) for image in batch])
        for batch in (images, augment(images, params, ERASED))
    )
    clear = (before[..., 1] > 0.4) & (before[..., 2] > 0.4)
    turned = (after - before)[..., 0] - 360 * params.factors_n4[:, 3, None, None]
    assert np.abs((turned + 180) % 360 - 180)[clear].mean() < 2  # degrees; torchvision's own 8 bits give as much
    assert np.abs(after - before)[..., 1:][clear].mean() < 0.01


def test_a_grey_is_torchvisions(images):
    params = sample_params(only(grayscale_p=1), len(images), SIZE, np.random.default_rng(0))
    ours, theirs = both(images, params, lambda image, i: plain.rgb_to_grayscale(image, 3))
    assert np.abs(ours - theirs).max() <= 1


def test_an_erased_rectangle_is_the_mean_colour_and_nothing_else_changes(images):
    params = sample_params(only(erase_p=1), len(images), SIZE, np.random.default_rng(0))
    made = augment(images, params, ERASED)
    for image, before, (x0, y0, x1, y1) in zip(made, images, params.erase_n4, strict=True):
        assert (image[y0:y1, x0:x1] == ERASED).all()
        image[y0:y1, x0:x1] = before[y0:y1, x0:x1]
        assert np.array_equal(image, before)


def test_a_chain_of_all_in_one_warp_is_torchvisions_chain(images):
    """Jittered fill, lost corners and black later fill included."""
    recipe = dataclasses.replace(AFTER, erase_p=0, perspective_p=1)
    params = sample_params(recipe, len(images), SIZE, np.random.default_rng(0))
    start = [[0, 0], [SIZE - 1, 0], [SIZE - 1, SIZE - 1], [0, SIZE - 1]]

    def operate(image: Image.Image, i: int) -> Image.Image:
        image = plain.hflip(image) if params.flip_n[i] else image
        image = plain.rotate(image, params.angle_n[i], BILINEAR)
        for step in params.order_n4[i]:
            image = ADJUST[step](image, params.factors_n4[i, step])
        image = plain.affine(image, 0, params.shift_n2[i].astype(int).tolist(), params.scale_n[i], [0, 0], BILINEAR)
        image = plain.perspective(image, start, params.corners_n42[i].tolist(), BILINEAR)
        return plain.rgb_to_grayscale(image, 3) if params.gray_n[i] else image

    ours, theirs = both(images, params, operate)
    assert np.abs(ours - theirs).mean() < 3
    assert np.percentile(np.abs(ours - theirs), 95) < 12
    assert abs(ours.mean() - theirs.mean()) < 1.5  # Pillow cuts half a level off at each of three resamplings


# the sampled parameters


def torchvisions_params(recipe: Recipe, n: int) -> dict[str, np.ndarray]:
    """Draw by torchvision's own get_params."""
    torch.manual_seed(0)
    random.seed(0)
    affine, erasing, colour = [], [], []
    image = torch.zeros(3, SIZE, SIZE)
    for _ in range(n):
        _, shift, scale, _ = transforms.RandomAffine.get_params(
            (0.0, 0.0), (recipe.translate,) * 2, (recipe.scale_min, recipe.scale_max), None, [SIZE, SIZE]
        )
        affine.append([*shift, scale])
        y, x, h, w, _ = transforms.RandomErasing.get_params(
            image, (recipe.erase_area_min, recipe.erase_area_max), (0.3, 3.3), [0.0]
        )
        erasing.append([x, y, w, h])
        ends = transforms.RandomPerspective.get_params(SIZE, SIZE, recipe.perspective)[1]
        b, c, s, h_ = transforms.ColorJitter.get_params((0.6, 1.4), (0.6, 1.4), (0.7, 1.3), (-0.15, 0.15))[1:]
        colour.append([b, c, s, h_, transforms.RandomRotation.get_params([-20.0, 20.0]), *np.ravel(ends)])
    return {"affine": np.array(affine), "erasing": np.array(erasing), "rest": np.array(colour)}


def test_every_number_is_drawn_from_torchvisions_distribution():
    n = 3000
    recipe = dataclasses.replace(AFTER, erase_p=1, perspective_p=1)
    theirs = torchvisions_params(recipe, n)
    ours = sample_params(recipe, n, SIZE, np.random.default_rng(0))
    x0, y0, x1, y1 = ours.erase_n4.T
    pairs = {
        "affine": np.column_stack([ours.shift_n2, ours.scale_n]),
        "erasing": np.column_stack([x0, y0, x1 - x0, y1 - y0]),
        "rest": np.column_stack([ours.factors_n4, ours.angle_n, ours.corners_n42.reshape(n, 8)]),
    }
    for name, mine in pairs.items():
        for column in range(mine.shape[1]):
            assert ks_2samp(mine[:, column], theirs[name][:, column]).pvalue > 1e-3, (name, column)


def test_chances_are_the_recipes_and_every_order_is_as_likely():
    n = 20_000
    ours = sample_params(AFTER, n, SIZE, np.random.default_rng(0))
    moved = (ours.corners_n42 != [[0, 0], [SIZE - 1, 0], [SIZE - 1, SIZE - 1], [0, SIZE - 1]]).any((1, 2))
    for drawn, p in (
        (ours.flip_n, 0.5),
        (ours.gray_n, 0.1),
        (moved, 0.3 * (1 - 0.2**8)),
        (ours.erase_n4[:, 2] > ours.erase_n4[:, 0], 0.3),
    ):
        assert abs(drawn.mean() - p) < 4 * np.sqrt(p * (1 - p) / n)
    orders = np.unique(ours.order_n4, axis=0, return_counts=True)[1]
    assert len(orders) == 24
    assert chisquare(orders).pvalue > 1e-3


# whole recipes


def statistics(batch: np.ndarray) -> dict[str, np.ndarray]:
    """Return statistics of each picture of uint8 (n, S, S, 3) RGB."""
    pixels = batch.astype(np.float32)
    hsv = np.stack([cv2.cvtColor(image / 255, cv2.COLOR_RGB2HSV) for image in pixels])
    angle = np.exp(1j * np.radians(hsv[..., 0])) * hsv[..., 1]
    erased = (np.abs(pixels - ERASED).max(3) <= 1).mean((1, 2))
    return {
        "red": pixels[..., 0].mean((1, 2)),
        "green": pixels[..., 1].mean((1, 2)),
        "blue": pixels[..., 2].mean((1, 2)),
        "contrast": pixels.mean(3).std((1, 2)),
        "darkest tenth": np.percentile(pixels.mean(3), 10, axis=(1, 2)),
        "brightest tenth": np.percentile(pixels.mean(3), 90, axis=(1, 2)),
        "saturation": hsv[..., 1].mean((1, 2)),
        "hue": np.angle(angle.mean((1, 2))),
        "black": (pixels.max(3) <= 2).mean((1, 2)),
        "erased": erased,
        "corners": pixels[:, [0, 3, 0, 3, -1, -4, -1, -4], [0, 3, -1, -4, 0, 3, -1, -4]].mean((1, 2)),
        "left minus right": pixels[:, :, : SIZE // 2].mean((1, 2, 3)) - pixels[:, :, SIZE // 2 :].mean((1, 2, 3)),
    }


@pytest.mark.parametrize("name", ["before", "after"])
def test_a_recipes_pictures_have_torchvisions_distribution(images, name):
    recipe = load_recipe(name)
    torch.manual_seed(1)
    random.seed(1)
    transform = baseline_transform(recipe, SIZE)
    batch = images[np.arange(768) % len(images)]
    normalised = torch.stack([transform(Image.fromarray(image)) for image in batch])
    levels = (normalised * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)) * 255
    theirs = statistics(levels.round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy())
    ours = statistics(Augmentation(recipe, SIZE, MEAN)(batch, np.random.default_rng(2)))
    wrong = {key: p for key in ours if (p := ks_2samp(ours[key], theirs[key]).pvalue) < 1e-3}
    assert not wrong


def test_the_statistics_would_tell_a_wrong_augmentation(images):
    """A recipe off by one part is told from the right one: the comparison above has teeth."""
    batch = images[np.arange(768) % len(images)]
    right = statistics(Augmentation(AFTER, SIZE, MEAN)(batch, np.random.default_rng(2)))
    for field, value in (("erase_p", 0.15), ("rotation_deg", 0.0), ("brightness", 0.1), ("translate", 0), ("hue", 0)):
        wrong = Augmentation(dataclasses.replace(AFTER, **{field: value}), SIZE, MEAN)(batch, np.random.default_rng(2))
        seen = statistics(wrong)
        assert min(ks_2samp(right[key], seen[key]).pvalue for key in right) < 1e-3, field
