"""Augmentation on the CPU, on uint8 and a batch at a time: torchvision's distributions at a fraction of its cost.

Both published recipes list their transforms in this order, after a flip that their table leaves out: rotation, color
jitter, affine, perspective, gray, erasing. Here the color comes first, on the stored pixels, and one warp then applies
everything geometric. What the new order would change is corrected: the fill that a rotation brings in goes through the
jitter (a lower contrast makes it gray) and counts in the contrast's mean, what the rotation moves out of the image is
lost, and the fill of the later affine and perspective is black.

Known differences from torchvision: one bilinear resampling instead of two nearest ones and a bilinear one; the
contrast's mean is taken before the rotation cuts its corners off; erasing writes the mean color rounded to a level
(0 after normalization to within half a level).
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from core.geometry.frame import Bytes
from training.augment.params import (
    BRIGHTNESS,
    CONTRAST,
    HUE,
    LUMA_BLUE,
    LUMA_GREEN,
    LUMA_RED,
    SATURATION,
    TRUNCATION_OFFSET,
    AugmentParams,
    Floats,
    covered_share,
    homographies,
    sample_params,
)
from training.recipe import Recipe

GRAY_MATRIX = np.tile([LUMA_RED, LUMA_GREEN, LUMA_BLUE], (3, 1))
SUBPIXEL_BITS = 4


class Augmentation:
    """The augmentation of a recipe for one input size and normalization."""

    def __init__(self, recipe: Recipe, size_px: int, mean: tuple[float, ...]) -> None:
        self.recipe = recipe
        self.size_px = size_px
        self.erased_rgb = np.round(np.array(mean) * 255).astype(np.uint8)

    def __call__(self, images_nhwc: Bytes, random: np.random.Generator) -> Bytes:
        """Return an augmented copy of uint8 (n, S, S, 3) RGB."""
        params = sample_params(self.recipe, len(images_nhwc), self.size_px, random)
        return augment(images_nhwc, params, self.erased_rgb)


def augment(images_nhwc: Bytes, params: AugmentParams, erased_rgb: NDArray[np.uint8]) -> Bytes:
    """Return an augmented copy of uint8 (n, S, S, 3) RGB."""
    size_px = params.size_px
    forward_n33, later_n33, perspective_n33 = homographies(params)
    # where the borders of a rotated image, and of one after the affine, come to lie in the output
    rotated_n42 = _moved_corners(size_px, later_n33)
    affine_n42 = _moved_corners(size_px, perspective_n33)
    has_perspective_n = (perspective_n33 != np.eye(3)).any((1, 2)).tolist()
    saturation_n34 = _saturation_matrices(params.factors_n4[:, SATURATION])
    covered = covered_share(params.angle_n).tolist()
    # lists, because the loop takes single numbers, which NumPy makes slowly
    orders = params.order_n4.tolist()
    factors = params.factors_n4.tolist()
    grays = params.gray_n.tolist()
    ops = ImageOps(size_px)
    outside = np.empty((size_px, size_px), np.uint8)
    out_nhwc = np.empty_like(images_nhwc)
    for i, (x0, y0, x1, y1) in enumerate(params.erase_n4.tolist()):
        out = out_nhwc[i]
        colored, fill = ops.jitter(images_nhwc[i], orders[i], factors[i], covered[i], saturation_n34[i])
        if grays[i]:
            colored = ops.transform(colored, GRAY_MATRIX)
        ops.warp(colored, forward_n33[i], fill, out)
        # what a rotation, then an affine, moves out of the image is lost; what comes in is black, not jittered black
        for corners in (rotated_n42[i], affine_n42[i]) if has_perspective_n[i] else (rotated_n42[i],):
            outside.fill(255)
            cv2.fillConvexPoly(outside, corners, 0, shift=SUBPIXEL_BITS)
            cv2.bitwise_xor(out, out, dst=out, mask=outside)  # x xor x is 0: blackens under the mask, in place
        out[y0:y1, x0:x1] = erased_rgb
    return out_nhwc


class ImageOps:
    """The color steps and the warp of single images, in reused buffers.

    Each color step is clipped to a byte as torchvision does; fusing the matrices into one would lose that.
    """

    def __init__(self, size_px: int) -> None:
        self.work = np.empty((size_px, size_px, 3), np.uint8)
        self.hsv = np.empty_like(self.work)
        self.row_shift = np.zeros(size_px * 3, np.uint8)
        self.rgba, self.warped = np.empty((2, size_px, size_px, 4), np.uint8)

    def jitter(
        self, image: Bytes, order: list[int], factors: list[float], covered: float, saturation: Floats
    ) -> tuple[Bytes, float]:
        """Return the jittered image, which the next call overwrites, and the level of the fill, which starts black.

        covered: the share of the image that a rotation leaves; the rest counts as fill in the contrast's mean.
        """
        fill = 0.0
        # image and work may be the same buffer: each of these operations reads a pixel before it writes it
        for step in order:
            factor = factors[step]
            if step == HUE:
                image = self.shift_hue(image, int(factor * 255) % 256)  # as torchvision, which wraps a byte
            elif factor == 1:
                continue
            elif step == BRIGHTNESS:
                image = cv2.convertScaleAbs(image, self.work, factor, TRUNCATION_OFFSET)  # type: ignore[assignment]
                fill = min(fill * factor, 255.0)
            elif step == CONTRAST:
                red, green, blue, _ = cv2.mean(image)
                gray = LUMA_RED * red + LUMA_GREEN * green + LUMA_BLUE * blue
                mean = covered * gray + (1 - covered) * fill
                offset = (1 - factor) * mean
                image = cv2.addWeighted(image, factor, image, 0.0, offset + TRUNCATION_OFFSET, self.work)  # type: ignore[assignment]
                fill = min(max(fill * factor + offset, 0.0), 255.0)
            else:
                image = self.transform(image, saturation)
        return image, fill

    def transform(self, image: Bytes, matrix: Floats) -> Bytes:
        """Multiply each pixel by a 3x3 or 3x4 matrix: 3 us at 64 px."""
        return np.asarray(cv2.transform(image, matrix, dst=self.work), np.uint8)

    def shift_hue(self, image: Bytes, shift: int) -> Bytes:
        """Shift the hue by `shift` 256ths of the circle. Source: torchvision's adjust_hue on 8-bit HSV."""
        if not shift:
            return image
        cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL, dst=self.hsv)
        self.row_shift[::3] = shift  # hue is the first of three channels
        rows = self.hsv.reshape(-1, len(self.row_shift))
        rows += self.row_shift  # bytes wrap around as hue does; whole rows are twice as fast as one channel
        return np.asarray(cv2.cvtColor(self.hsv, cv2.COLOR_HSV2RGB_FULL, dst=self.work), np.uint8)

    def warp(self, image: Bytes, forward: Floats, fill: float, out: Bytes) -> None:
        """Warp an image into `out`; with a fourth channel OpenCV takes 210 us at 224 px instead of 360."""
        cv2.cvtColor(image, cv2.COLOR_RGB2RGBA, dst=self.rgba)
        size = (len(image), len(image))
        border = (fill, fill, fill, 255)
        cv2.warpPerspective(self.rgba, forward, size, dst=self.warped, borderValue=border)
        cv2.cvtColor(self.warped, cv2.COLOR_RGBA2RGB, dst=out)


def _saturation_matrices(factors: Floats) -> Floats:
    """Return (n, 3, 4) matrices that blend each pixel with its own gray."""
    own = factors[:, None, None]
    linear = own * np.eye(3) + (1 - own) * GRAY_MATRIX
    return np.concatenate([linear, np.full((len(factors), 3, 1), TRUNCATION_OFFSET)], 2)


def _moved_corners(size_px: int, maps_n33: Floats) -> NDArray[np.int32]:
    """Return the image's corner pixels after maps, (n, 4, 2) in 16ths of a pixel, as fillConvexPoly takes them."""
    last = size_px - 1
    corners = np.array([[0, 0, 1], [last, 0, 1], [last, last, 1], [0, last, 1]])
    moved = corners @ maps_n33.transpose(0, 2, 1)
    positions = moved[..., :2] / moved[..., 2:]  # homogeneous coordinates
    return np.round(positions * (1 << SUBPIXEL_BITS)).astype(np.int32)
