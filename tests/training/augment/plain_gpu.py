"""The plain twin of training/augment/gpu.py: many small arrays go to the device, and data decide the branches."""

from __future__ import annotations

import numpy as np
import torch
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
    Floats,
    covered_share,
    homographies,
)  # fmt: skip


def augment(frames_nhwc: Tensor, params: AugmentParams, erased_rgb: Tensor) -> Tensor:
    """Apply `params` to uint8 (n, S, S, 3) RGB; the input is not changed."""
    images = frames_nhwc.permute(0, 3, 1, 2).float()
    images, fill_n = _jitter(images, params)
    images = _warp(images, fill_n, params)
    x, y = _pixels(params.size_px, images.device)
    x0, y0, x1, y1 = (_per_image(edge, images) for edge in params.erase_n4.T)
    erased = (x >= x0) & (x < x1) & (y >= y0) & (y < y1)
    images = torch.where(erased, erased_rgb.to(images.device).view(1, 3, 1, 1), images)
    return images.round_().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def _jitter(images: Tensor, params: AugmentParams) -> tuple[Tensor, Tensor]:
    """Return the jittered images, levels 0 to 255, and what black became in each, (n, 1, 1, 1).

    Brightness, contrast and saturation are all a x + b gray(x) + c: each of the four steps takes one pass.
    """
    rows = np.arange(len(images))
    covered = _per_image(covered_share(params.angle_n), images)
    fill = torch.zeros_like(covered)
    for step in params.order_n4.T:
        factor = params.factors_n4[rows, step]
        still = (step == HUE) | (factor == 1)
        a = _per_image(np.where(still, 1, factor), images)
        b = _per_image(np.where(step == SATURATION, 1 - factor, 0), images)
        contrast = _per_image(np.where(step == CONTRAST, 1 - factor, 0), images)
        gray = _gray(images)
        offset = contrast * (covered * gray.mean((2, 3), keepdim=True) + (1 - covered) * fill)
        cut = _per_image(np.where(still, 0, TRUNCATION_OFFSET), images)
        images = (a * images + b * gray + (offset + cut)).round_().clamp_(0, 255)
        of_black = _per_image(np.where(np.isin(step, (BRIGHTNESS, CONTRAST)), factor, 1), images)
        fill = (of_black * fill + offset).clamp(0, 255)
        turned = np.flatnonzero(step == HUE)
        if turned.size:
            at = torch.from_numpy(turned).to(images.device, non_blocking=True)
            images[at] = _shift_hue(images[at], _per_image(params.factors_n4[turned, HUE], images))
    gray_n = _per_image(params.gray_n.astype(np.float64), images) > 0
    return torch.where(gray_n, _gray(images).round_(), images), fill


def _warp(images: Tensor, fill: Tensor, params: AugmentParams) -> Tensor:
    """Warp every image by its homography; what a transform moved out of the picture is black afterwards."""
    forward, later, perspective = homographies(params)
    last = params.size_px - 1
    x, y = _sources(forward, images)
    grid = torch.stack([x, y], -1).mul_(2 / last).sub_(1)
    warped = grid_sample(images - fill, grid, align_corners=True) + fill
    for maps in (later, perspective):
        if (maps != np.eye(3)).any():
            x, y = _sources(maps, images)
            inside = ((x - last / 2).abs() <= params.size_px / 2) & ((y - last / 2).abs() <= params.size_px / 2)
            warped *= inside[:, None]
    return warped


def _sources(forward_n33: Floats, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return x and y, each (n, S, S), of the point that comes to each pixel."""
    maps = torch.from_numpy(np.linalg.inv(forward_n33)).to(like.device, torch.float32, non_blocking=True)
    x, y = _pixels(like.shape[-1], like.device)
    rows = [m[:, :1, None] * x + m[:, 1:2, None] * y + m[:, 2:, None] for m in maps.unbind(1)]
    return rows[0] / rows[2], rows[1] / rows[2]


def _shift_hue(images: Tensor, turn: Tensor) -> Tensor:
    """Turn the hue by `turn` (n, 1, 1, 1), a share of the circle.

    Back from HSV, channel n of 5, 3, 1 is v - v s max(0, min(k, 4 - k, 1)), k = (n + 6 h) mod 6. Source: Wikipedia,
    "HSL and HSV", alternative HSV to RGB.
    """
    red, green, blue = images.unbind(1)
    high, low = images.amax(1), images.amin(1)
    chroma = (high - low).clamp_min(1e-6)
    sector = torch.where(
        high == red,
        (green - blue) / chroma,
        torch.where(high == green, 2 + (blue - red) / chroma, 4 + (red - green) / chroma),
    )
    k = (sector[:, None] + 6 * turn + torch.tensor([5.0, 3.0, 1.0], device=images.device).view(1, 3, 1, 1)) % 6
    share = torch.minimum(k, 4 - k).clamp_(0, 1)
    return (high[:, None] - (high - low)[:, None] * share).round_()


def _gray(images: Tensor) -> Tensor:
    red, green, blue = images.unbind(1)
    return (LUMA_RED * red + LUMA_GREEN * green + LUMA_BLUE * blue)[:, None]


def _per_image(values: Floats, like: Tensor) -> Tensor:
    """Return one number an image, (n, 1, 1, 1), on the device of `like`."""
    numbers = torch.from_numpy(np.ascontiguousarray(values, np.float32))
    return numbers.to(like.device, non_blocking=True).view(-1, 1, 1, 1)


def _pixels(size_px: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return x (1, S) and y (S, 1)."""
    line = torch.arange(size_px, device=device, dtype=torch.float32)
    return line[None], line[:, None]
