"""Augmentation on the device: what training/augment/cpu.py does, for images that already lie on a GPU.

The host packs all parameters of a batch into one float32 array (`pack_params`), which takes one copy. `augment` is one
function of tensors without a branch on their values, so it can be captured as a CUDA graph or fused by torch.compile.
With the same parameters the images equal the CPU's to a few levels: hue is turned without HSV's 8 bits, and edges are
blended.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import grid_sample

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
    covered_share,
    homographies,
)

STEP_COLUMNS = 6
"""The numbers of one color step; see `_pack_step`."""
COLUMN_GROUPS = (4 * STEP_COLUMNS, 1, 1, 4, 3 * 9)
"""The columns of the packed parameters: color steps, covered share, gray, erased rectangle, inverse maps."""


def pack_params(params: AugmentParams) -> NDArray[np.float32]:
    """Return all parameters as one float32 array (n, sum of COLUMN_GROUPS)."""
    n = len(params.flip_n)
    rows = np.arange(n)
    color_steps = [_pack_step(step_n, params.factors_n4[rows, step_n]) for step_n in params.order_n4.T]
    # grid_sample asks for the source of each output pixel, so the maps go the other way round
    inverse = [np.linalg.inv(maps_n33).reshape(n, 9) for maps_n33 in homographies(params)]
    singles = np.column_stack([covered_share(params.angle_n), params.gray_n, params.erase_n4])
    return np.concatenate([*color_steps, singles, *inverse], 1).astype(np.float32)


def _pack_step(step_n: NDArray[np.int64], factor_n: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return one color step of each image, (n, STEP_COLUMNS): a, b, contrast, cut, fill's share, hue's shift.

    Brightness, contrast and saturation are all a x + b gray(x) + offset, the offset being contrast's share of the mean.
    """
    # hue acts on its own, and a factor of 1 changes nothing: both leave a pixel alone, and are not truncated
    still = (step_n == HUE) | (factor_n == 1)
    own_weight = np.where(still, 1, factor_n)
    gray_weight = np.where(step_n == SATURATION, 1 - factor_n, 0)
    contrast = np.where(step_n == CONTRAST, 1 - factor_n, 0)
    truncation = np.where(still, 0, TRUNCATION_OFFSET)
    # the fill is gray, which neither saturation nor hue changes
    fill_share = np.where(np.isin(step_n, (BRIGHTNESS, CONTRAST)), factor_n, 1)
    hue_shift = np.where(step_n == HUE, factor_n, 0)
    return np.stack([own_weight, gray_weight, contrast, truncation, fill_share, hue_shift], 1)


def augment(frames_nhwc: Tensor, packed_nk: Tensor, erased_rgb: Tensor) -> Tensor:
    """Return an augmented copy of uint8 (n, S, S, 3) RGB; all tensors lie on one device."""
    color_steps, covered, gray, erase, maps = torch.split(packed_nk, list(COLUMN_GROUPS), 1)
    images = frames_nhwc.permute(0, 3, 1, 2).float()
    images, fill = _jitter(images, color_steps, _per_image(covered))
    images = torch.where(_per_image(gray) > 0, _gray(images).round(), images)
    x, y = _pixels(images)
    images = _warp(images, fill, maps.view(-1, 3, 9), x, y)
    x0, y0, x1, y1 = (_per_image(edge) for edge in erase.unbind(1))
    # an empty rectangle erases nothing, so no branch is needed for the images that are not erased
    erased = (x >= x0) & (x < x1) & (y >= y0) & (y < y1)
    images = torch.where(erased, erased_rgb.view(1, 3, 1, 1), images)
    return images.round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def _jitter(images: Tensor, color_steps: Tensor, covered: Tensor) -> tuple[Tensor, Tensor]:
    """Return the jittered images, levels 0 to 255, and the fill level of each image, (n, 1, 1, 1)."""
    fill = torch.zeros_like(covered)
    for step in torch.split(color_steps, STEP_COLUMNS, 1):
        own_weight, gray_weight, contrast, truncation, fill_share, hue_shift = (
            _per_image(column) for column in step.unbind(1)
        )
        gray = _gray(images)
        # the published order rotates first: the share that the rotation uncovers is fill, and counts in the mean
        mean = covered * gray.mean((2, 3), keepdim=True) + (1 - covered) * fill
        offset = contrast * mean
        # rounded after each step, because the CPU's images are bytes in between
        images = (own_weight * images + gray_weight * gray + (offset + truncation)).round().clamp(0, 255)
        fill = (fill_share * fill + offset).clamp(0, 255)
        images = _shift_hue(images, hue_shift)  # a shift of 0 returns whole levels as they are
    return images, fill


def _warp(images: Tensor, fill: Tensor, maps_n39: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Warp every image by its first map; what a later transform moved out of the image becomes black."""
    size_px = images.shape[-1]
    last = size_px - 1
    forward, *later = maps_n39.unbind(1)
    # grid_sample takes -1 to 1 for the first to the last pixel's center, and pads with 0: so the fill is 0 meanwhile
    grid = torch.stack(_sources(forward, x, y), -1) * (2 / last) - 1
    images = grid_sample(images - fill, grid, align_corners=True) + fill
    for inverse in later:
        u, v = _sources(inverse, x, y)
        # a pixel reaches half a pixel beyond its center, so the image ends size / 2 from the middle
        inside = ((u - last / 2).abs() <= size_px / 2) & ((v - last / 2).abs() <= size_px / 2)
        images = images * inside[:, None]
    return images


def _sources(map_n9: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return x and y, each (n, S, S), of the source point of each pixel by an inverse map."""
    m = [column.view(-1, 1, 1) for column in map_n9.unbind(1)]
    u, v, w = (m[i] * x + m[i + 1] * y + m[i + 2] for i in (0, 3, 6))
    return u / w, v / w


def _shift_hue(images: Tensor, shift: Tensor) -> Tensor:
    """Shift the hue by `shift` (n, 1, 1, 1), a share of the circle.

    Back from HSV, channel n of 5, 3, 1 is v - v s max(0, min(k, 4 - k, 1)), k = (n + 6 h) mod 6. Source: Wikipedia,
    "HSL and HSV", alternative HSV to RGB.
    """
    red, green, blue = images.unbind(1)
    high, low = images.amax(1), images.amin(1)
    chroma = (high - low).clamp_min(1e-6)  # gray has no hue: any will do, but not a division by 0
    from_green = 2 + (blue - red) / chroma
    from_blue = 4 + (red - green) / chroma
    not_red = torch.where(high == green, from_green, from_blue)
    sector = torch.where(high == red, (green - blue) / chroma, not_red)  # 6 h
    channels = 5 - 2 * torch.arange(3, device=images.device).view(1, 3, 1, 1)
    k = (sector[:, None] + 6 * shift + channels) % 6
    share = torch.minimum(k, 4 - k).clamp(0, 1)
    return (high[:, None] - (high - low)[:, None] * share).round()


def _gray(images: Tensor) -> Tensor:
    red, green, blue = images.unbind(1)
    return (LUMA_RED * red + LUMA_GREEN * green + LUMA_BLUE * blue)[:, None]


def _per_image(column: Tensor) -> Tensor:
    """Return a column of parameters as (n, 1, 1, 1), one number for all pixels of an image."""
    return column.reshape(-1, 1, 1, 1)


def _pixels(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the pixels' coordinates, x (1, S) and y (S, 1)."""
    line = torch.arange(images.shape[-1], device=images.device, dtype=images.dtype)
    return line[None], line[:, None]
