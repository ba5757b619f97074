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
"""The weights of gray. Source: ITU-R BT.601, as Pillow's convert("L")."""
TRUNCATION_OFFSET = -0.5
"""Added before rounding, because Pillow truncates; without it three color steps make an image a level brighter."""
ERASE_TRIES = 10
ERASE_RATIO = (0.3, 3.3)
"""The range of height by width. Source: torchvision.transforms.RandomErasing."""


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
    # the order of the draws is part of what a seed means: another one would give other images
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
    flip_rotate = _flip_rotations(params)
    affine = _affines(params)
    perspective = _perspectives(params)
    later = perspective @ affine  # matrices apply from right to left
    return later @ flip_rotate, later, perspective


def covered_share(angle_deg: Floats) -> Floats:
    """Return the share of a square that its own copy, rotated about the center, still covers: the rest is fill."""
    # two unit squares at angle a share an octagon of area 2 / (1 + |sin a| + |cos a|)
    radians = np.radians(angle_deg)
    share: Floats = 2 / (1 + np.abs(np.sin(radians)) + np.abs(np.cos(radians)))
    return share


def _flip_rotations(params: AugmentParams) -> Floats:
    """Return the (n, 3, 3) maps of a flip and then a rotation."""
    center = (params.size_px - 1) / 2
    radians = np.radians(params.angle_n)
    cos, sin = np.cos(radians), np.sin(radians)
    mirror = np.where(params.flip_n, -1.0, 1.0)
    maps = np.tile(np.eye(3), (len(params.flip_n), 1, 1))
    # y points down in an image, so a rotation counter-clockwise has the sine's signs exchanged
    maps[:, 0, 0] = cos * mirror
    maps[:, 0, 1] = sin
    maps[:, 1, 0] = -sin * mirror
    maps[:, 1, 1] = cos
    # a map M about the center c takes x to M (x - c) + c, so its last column is c - M c
    maps[:, :2, 2] = center - center * maps[:, :2, :2].sum(2)
    return maps


def _affines(params: AugmentParams) -> Floats:
    """Return the (n, 3, 3) maps of a magnification about the center and then a translation."""
    center = (params.size_px - 1) / 2
    maps = np.tile(np.eye(3), (len(params.flip_n), 1, 1))
    maps[:, 0, 0] = params.scale_n
    maps[:, 1, 1] = params.scale_n
    maps[:, :2, 2] = center * (1 - params.scale_n)[:, None] + params.shift_n2
    return maps


def _corners(size_px: int) -> Floats:
    """Return the square's corners, (4, 2), in the order of `corners_n42`."""
    last = size_px - 1
    return np.array([[0, 0], [last, 0], [last, last], [0, last]], np.float64)


def _sample_corners(recipe: Recipe, n: int, size_px: int, random: np.random.Generator) -> Floats:
    """Move each corner inwards by 0 to `reach` whole pixels. Source: RandomPerspective.get_params."""
    reach = int(recipe.perspective * (size_px // 2))
    inwards = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]])
    moved = random.integers(0, reach + 1, (n, 4, 2)) * inwards
    chosen = random.random(n) < recipe.perspective_p
    return _corners(size_px) + np.where(chosen[:, None, None], moved, 0)


def _perspectives(params: AugmentParams) -> Floats:
    """Return the (n, 3, 3) maps that take the square's corners to `corners_n42`.

    torchvision computes with pixel numbers as if they were positions, which are half a pixel away; so does this.
    """
    start = _corners(params.size_px)
    maps = np.tile(np.eye(3), (len(params.flip_n), 1, 1))
    moved = np.flatnonzero((params.corners_n42 != start).any((1, 2)))
    if moved.size == 0:
        return maps
    positions = _solve_perspectives(start, params.corners_n42[moved])
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    maps[moved] = np.linalg.inv(half) @ positions @ half
    return maps


def _solve_perspectives(start: Floats, end_m42: Floats) -> Floats:
    """Return the (m, 3, 3) maps from the corners `start` to the corners of each image in `end_m42`."""
    m = len(end_m42)
    ones = np.ones((m, 4))
    zeros = np.zeros((m, 4))
    x = np.tile(start[:, 0], (m, 1))
    y = np.tile(start[:, 1], (m, 1))
    u = end_m42[:, :, 0]
    v = end_m42[:, :, 1]
    # u = (a x + b y + c) / (g x + h y + 1) is linear in a to h once multiplied out, and so is v in d, e, f, g, h:
    # four corners give the eight equations for the eight numbers
    for_u = np.stack([x, y, ones, zeros, zeros, zeros, -u * x, -u * y], 2)
    for_v = np.stack([zeros, zeros, zeros, x, y, ones, -v * x, -v * y], 2)
    equations = np.concatenate([for_u, for_v], 1)
    right_sides = np.concatenate([u, v], 1)[:, :, None]
    solved = np.linalg.solve(equations, right_sides)[:, :, 0]
    nine = np.concatenate([solved, np.ones((m, 1))], 1)  # the ninth number of a map is 1
    return nine.reshape(-1, 3, 3)


def _sample_erased(recipe: Recipe, n: int, size_px: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Take the first of ten tries that is smaller than the image. Source: RandomErasing.get_params."""
    shape = (n, ERASE_TRIES)
    share = random.uniform(recipe.erase_area_min, recipe.erase_area_max, shape)
    area = size_px**2 * share
    # uniform in the logarithm, so that upright and lying rectangles are equally frequent
    lowest, highest = map(math.log, ERASE_RATIO)
    ratio = np.exp(random.uniform(lowest, highest, shape))
    high = np.round(np.sqrt(area * ratio))
    wide = np.round(np.sqrt(area / ratio))
    fits = (high < size_px) & (wide < size_px)
    first = fits.argmax(1)  # 0 where none fits: `erased` leaves those out
    erased = (random.random(n) < recipe.erase_p) & fits.any(1)
    rows = np.arange(n)
    first_high = high[rows, first].astype(np.int64)
    first_wide = wide[rows, first].astype(np.int64)
    h = np.where(erased, first_high, 0)
    w = np.where(erased, first_wide, 0)
    y = random.integers(0, size_px - h + 1)
    x = random.integers(0, size_px - w + 1)
    return np.stack([x, y, x + w, y + h], 1)
