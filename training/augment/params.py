"""The random parameters of augmentation, sampled for a whole batch at once.

training/augment/cpu.py and training/augment/gpu.py apply them to the pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from training.recipe import Recipe

Floats = NDArray[np.float64]
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
LUMA_RED, LUMA_GREEN, LUMA_BLUE = 0.299, 0.587, 0.114
"""Source: ITU-R BT.601, as Pillow's convert("L")."""
TRUNCATION_OFFSET = -0.5
"""Added before rounding, because Pillow truncates; without it three color steps make an image a level brighter."""
ERASE_TRIES = 10
ERASE_RATIO = (0.3, 3.3)
"""Source: torchvision.transforms.RandomErasing."""


@dataclass(frozen=True)
class AugmentParams:
    """The parameters of n images, in the order in which they act: torchvision's classes of the same names."""

    size_px: int
    flip_n: NDArray[np.bool_]
    angle_n: Floats
    """Rotation, in degrees."""
    order_n4: NDArray[np.int64]
    """The order of BRIGHTNESS, CONTRAST, SATURATION and HUE in each image."""
    factors_n4: Floats
    """Brightness, contrast and saturation factors, and the hue's shift as a share of the circle."""
    shift_n2: Floats
    """Translation in whole pixels, x and y."""
    scale_n: Floats
    corners_n42: Floats
    """The corners after the perspective (top left, top right, bottom right, bottom left), x and y in pixels."""
    gray_n: NDArray[np.bool_]
    erase_n4: NDArray[np.int64]
    """The erased rectangle: x0, y0, x1, y1; empty for none."""

    def select(self, part: slice) -> AugmentParams:
        """Return the parameters of a part of the images."""
        arrays = {item.name: getattr(self, item.name)[part] for item in fields(self) if item.name != "size_px"}
        return replace(self, **arrays)


def sample_params(recipe: Recipe, n: int, size_px: int, random: np.random.Generator) -> AugmentParams:
    """Sample the parameters of `n` images of `size_px` squared."""
    jitter = np.array([recipe.brightness, recipe.contrast, recipe.saturation])
    factors = random.uniform(np.maximum(0, 1 - jitter), 1 + jitter, (n, 3))
    reach = recipe.translate * size_px
    return AugmentParams(
        size_px=size_px,
        flip_n=random.random(n) < recipe.flip_p,
        angle_n=random.uniform(-recipe.rotation_deg, recipe.rotation_deg, n),
        order_n4=random.permuted(np.tile(np.arange(4), (n, 1)), axis=1),
        factors_n4=np.column_stack([factors, random.uniform(-recipe.hue, recipe.hue, n)]),
        shift_n2=np.round(random.uniform(-reach, reach, (n, 2))),
        scale_n=random.uniform(recipe.scale_min, recipe.scale_max, n),
        corners_n42=_sample_corners(recipe, n, size_px, random),
        gray_n=random.random(n) < recipe.grayscale_p,
        erase_n4=_sample_erased(recipe, n, size_px, random),
    )


def homographies(params: AugmentParams) -> tuple[Floats, Floats, Floats]:
    """Return three (n, 3, 3) maps from pixel coordinates of an input image to those of the output.

    The geometric steps are flip, rotation, affine (scale and translation) and perspective, each about the center. The
    first map is all of them, by which pixels are warped. The second is affine and perspective, the third perspective
    alone: they take the borders of an image to where the rotation's and the affine's results are cut off.
    """
    n, center = len(params.flip_n), (params.size_px - 1) / 2
    flip_rotate = np.tile(np.eye(3), (n, 1, 1))
    cos, sin = np.cos(np.radians(params.angle_n)), np.sin(np.radians(params.angle_n))
    mirror = np.where(params.flip_n, -1.0, 1.0)
    flip_rotate[:, 0, 0], flip_rotate[:, 0, 1] = cos * mirror, sin
    flip_rotate[:, 1, 0], flip_rotate[:, 1, 1] = -sin * mirror, cos
    # a map M about the center c takes x to M (x - c) + c, so its last column is c - M c
    flip_rotate[:, :2, 2] = center - center * flip_rotate[:, :2, :2].sum(2)
    affine = np.tile(np.eye(3), (n, 1, 1))
    affine[:, 0, 0] = affine[:, 1, 1] = params.scale_n
    affine[:, :2, 2] = center * (1 - params.scale_n)[:, None] + params.shift_n2
    perspective = _perspectives(params)
    later = perspective @ affine  # matrices apply from right to left
    return later @ flip_rotate, later, perspective


def covered_share(angle_deg: Floats) -> Floats:
    """Return the share of a square that its own copy, rotated about the center, still covers: the rest is fill."""
    radians = np.radians(angle_deg)
    share: Floats = 2 / (1 + np.abs(np.sin(radians)) + np.abs(np.cos(radians)))
    return share


def _corners(size_px: int) -> Floats:
    last = size_px - 1
    return np.array([[0, 0], [last, 0], [last, last], [0, last]], np.float64)


def _sample_corners(recipe: Recipe, n: int, size_px: int, random: np.random.Generator) -> Floats:
    """Move each corner inwards by 0 to `reach` whole pixels. Source: RandomPerspective.get_params."""
    reach = int(recipe.perspective * (size_px // 2))
    inwards = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]])
    moved = random.integers(0, reach + 1, (n, 4, 2)) * inwards
    return _corners(size_px) + np.where((random.random(n) < recipe.perspective_p)[:, None, None], moved, 0)


def _perspectives(params: AugmentParams) -> Floats:
    """Return the (n, 3, 3) maps that take the square's corners to `corners_n42`: eight equations an image.

    torchvision computes with pixel numbers as if they were positions, which are half a pixel away; so does this.
    """
    n, start = len(params.flip_n), _corners(params.size_px)
    maps = np.tile(np.eye(3), (n, 1, 1))
    moved = np.flatnonzero((params.corners_n42 != start).any((1, 2)))
    if moved.size == 0:
        return maps
    end = params.corners_n42[moved]
    ones, zeros = np.ones((len(moved), 4)), np.zeros((len(moved), 4))
    x, y = np.tile(start[:, 0], (len(moved), 1)), np.tile(start[:, 1], (len(moved), 1))
    u, v = end[:, :, 0], end[:, :, 1]
    for_u = np.stack([x, y, ones, zeros, zeros, zeros, -u * x, -u * y], 2)
    for_v = np.stack([zeros, zeros, zeros, x, y, ones, -v * x, -v * y], 2)
    solved = np.linalg.solve(np.concatenate([for_u, for_v], 1), np.concatenate([u, v], 1)[:, :, None])
    positions = np.concatenate([solved[:, :, 0], np.ones((len(moved), 1))], 1).reshape(-1, 3, 3)
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    maps[moved] = np.linalg.inv(half) @ positions @ half
    return maps


def _sample_erased(recipe: Recipe, n: int, size_px: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Take the first of ten tries that is smaller than the image. Source: RandomErasing.get_params."""
    shape = (n, ERASE_TRIES)
    area = size_px**2 * random.uniform(recipe.erase_area_min, recipe.erase_area_max, shape)
    ratio = np.exp(random.uniform(math.log(ERASE_RATIO[0]), math.log(ERASE_RATIO[1]), shape))
    high, wide = np.round(np.sqrt(area * ratio)), np.round(np.sqrt(area / ratio))
    fits = (high < size_px) & (wide < size_px)
    first = fits.argmax(1), np.arange(n)
    h, w = high[first[1], first[0]].astype(np.int64), wide[first[1], first[0]].astype(np.int64)
    erased = (random.random(n) < recipe.erase_p) & fits.any(1)
    h, w = np.where(erased, h, 0), np.where(erased, w, 0)
    y, x = random.integers(0, size_px - h + 1), random.integers(0, size_px - w + 1)
    return np.stack([x, y, x + w, y + h], 1)
