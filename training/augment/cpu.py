"""Augmentation on uint8, a batch at a time: torchvision's distributions without its cost.

The order is that in which both published recipes' table lists the transforms, with the flip, which it leaves out,
before them: flip, rotation, colour jitter, affine, perspective, grey, erasing. Here the colour comes first, on the
pixels as stored, and then *one* warp carries out everything geometric. What the order changes is put back: fill that a
rotation brings in goes through the jitter (a lower contrast makes it grey) and counts in the contrast's mean, what the
rotation turns out of the picture is lost, and fill of the later affine and perspective is black.

Known differences from torchvision: one bilinear resampling in place of two nearest ones and a bilinear one; the
contrast's mean is taken before the rotation cuts its corners off; erasing writes the mean colour rounded to a grey
level (0 after normalisation to within half a level).
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from core.geometry.frame import Bytes
from training.augment.params import Draws, Floats, draw, homographies, overlap
from training.recipe import Recipe

RED, GREEN, BLUE = 0.299, 0.587, 0.114
"""Source: ITU-R BT.601, as Pillow's convert("L")."""
GREY_MATRIX = np.tile([RED, GREEN, BLUE], (3, 1))
SUBPIXEL_BITS = 4
CUT = -0.5
"""Added to what OpenCV rounds, since Pillow cuts off: three steps of it make a picture a level darker."""
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)


class Augmentation:
    """The augmentation of a recipe for one input size and normalisation."""

    def __init__(self, recipe: Recipe, size_px: int, mean: tuple[float, ...]) -> None:
        self.recipe = recipe
        self.size_px = size_px
        self.erased_rgb = np.round(np.array(mean) * 255).astype(np.uint8)

    def __call__(self, images_nhwc: Bytes, random: np.random.Generator) -> Bytes:
        """Return an augmented copy of uint8 (n, S, S, 3) RGB."""
        draws = draw(self.recipe, len(images_nhwc), self.size_px, random)
        return augment(images_nhwc, draws, self.erased_rgb)


def augment(images_nhwc: Bytes, draws: Draws, erased_rgb: NDArray[np.uint8]) -> Bytes:
    """Carry out `draws` on uint8 (n, S, S, 3) RGB; the input is not changed."""
    forward_n33, later_n33, perspective_n33 = homographies(draws)
    kept_n42, last_n42 = _squares(draws.size_px, later_n33), _squares(draws.size_px, perspective_n33)
    matrices_n34 = _saturation_matrices(draws.factors_n4[:, SATURATION])
    covered = overlap(draws.angle_n).tolist()
    orders, factors, greys = draws.order_n4.tolist(), draws.factors_n4.tolist(), draws.grey_n.tolist()
    perspective_n = (perspective_n33 != np.eye(3)).any((1, 2)).tolist()
    palette, outside = Palette(draws.size_px), np.empty((draws.size_px, draws.size_px), np.uint8)
    out_nhwc = np.empty_like(images_nhwc)
    for i, (x0, y0, x1, y1) in enumerate(draws.erase_n4.tolist()):
        out = out_nhwc[i]
        coloured, fill = palette.jitter(images_nhwc[i], orders[i], factors[i], covered[i], matrices_n34[i])
        if greys[i]:
            coloured = palette.transform(coloured, GREY_MATRIX)
        palette.warp(coloured, forward_n33[i], fill, out)
        # what a rotation, then an affine, moves out of the picture is lost; what comes in is black, not jittered black
        for square in (kept_n42[i], last_n42[i]) if perspective_n[i] else (kept_n42[i],):
            outside.fill(255)
            cv2.fillConvexPoly(outside, square, 0, shift=SUBPIXEL_BITS)
            cv2.bitwise_xor(out, out, dst=out, mask=outside)
        out[y0:y1, x0:x1] = erased_rgb
    return out_nhwc


class Palette:
    """Colours and warps one image after another, in buffers of its own.

    Each step of colour is clipped to a byte as torchvision does; fusing the matrices into one would lose that.
    """

    def __init__(self, size_px: int) -> None:
        self.work = np.empty((size_px, size_px, 3), np.uint8)
        self.hsv = np.empty_like(self.work)
        self.turn = np.zeros(size_px * 3, np.uint8)
        self.rgba, self.warped = np.empty((2, size_px, size_px, 4), np.uint8)

    def jitter(
        self, image: Bytes, order: list[int], factors: list[float], covered: float, saturation: Floats
    ) -> tuple[Bytes, float]:
        """Return the jittered image, which lives until the next call, and what black became.

        covered: the share of the picture that a rotation leaves; the rest counts as fill in the contrast's mean.
        """
        fill = 0.0
        for step in order:
            factor = factors[step]
            if step == HUE:
                image = self.turn_hue(image, int(factor * 255) % 256)
            elif factor == 1:
                continue
            elif step == BRIGHTNESS:
                image = cv2.convertScaleAbs(image, self.work, factor, CUT)  # type: ignore[assignment]
                fill = min(fill * factor, 255.0)
            elif step == CONTRAST:
                red, green, blue, _ = cv2.mean(image)
                mean = covered * (RED * red + GREEN * green + BLUE * blue) + (1 - covered) * fill
                offset = (1 - factor) * mean
                image = cv2.addWeighted(image, factor, image, 0.0, offset + CUT, self.work)  # type: ignore[assignment]
                fill = min(max(fill * factor + offset, 0.0), 255.0)
            else:
                image = self.transform(image, saturation)
        return image, fill

    def transform(self, image: Bytes, matrix: Floats) -> Bytes:
        """Multiply each pixel by a 3x3 or 3x4 matrix: 3 us at 64 px."""
        return np.asarray(cv2.transform(image, matrix, dst=self.work), np.uint8)

    def turn_hue(self, image: Bytes, turn: int) -> Bytes:
        """Turn the hue by `turn` 256ths of the circle. Source: torchvision's adjust_hue on 8-bit HSV."""
        if not turn:
            return image
        cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL, dst=self.hsv)
        self.turn[::3] = turn
        rows = self.hsv.reshape(-1, len(self.turn))
        rows += self.turn  # wraps around, as the circle does; a whole row at a time is twice as fast as one channel
        return np.asarray(cv2.cvtColor(self.hsv, cv2.COLOR_HSV2RGB_FULL, dst=self.work), np.uint8)

    def warp(self, image: Bytes, forward: Floats, fill: float, out: Bytes) -> None:
        """Warp an image into `out`; with a fourth channel OpenCV takes 210 us at 224 px, not 360."""
        cv2.cvtColor(image, cv2.COLOR_RGB2RGBA, dst=self.rgba)
        size = (len(image), len(image))
        cv2.warpPerspective(self.rgba, forward, size, dst=self.warped, borderValue=(fill, fill, fill, 255))
        cv2.cvtColor(self.warped, cv2.COLOR_RGBA2RGB, dst=out)


def _saturation_matrices(factors: Floats) -> Floats:
    """Return (n, 3, 4): the blend of each pixel with its own grey."""
    own = factors[:, None, None]
    linear = own * np.eye(3) + (1 - own) * GREY_MATRIX
    return np.concatenate([linear, np.full((len(factors), 3, 1), CUT)], 2)


def _squares(size_px: int, maps_n33: Floats) -> NDArray[np.int32]:
    """Return (n, 4, 2): where maps take the picture's corner pixels, in 16ths, for OpenCV to fill, edges included."""
    last = size_px - 1
    corners = np.array([[0, 0, 1], [last, 0, 1], [last, last, 1], [0, last, 1]])
    moved = corners @ maps_n33.transpose(0, 2, 1)
    return np.round(moved[..., :2] / moved[..., 2:] * (1 << SUBPIXEL_BITS)).astype(np.int32)
