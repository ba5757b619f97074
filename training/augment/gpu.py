"""Augmentation on the device: what training/augment/cpu.py does to a batch, for pictures that already lie on a GPU.

The numbers are drawn on the host by training/augment/params.py, as for the CPU; no step waits for the device. With
the same numbers the pictures are the same to a few levels: hue is turned without HSV's 8 bits, and edges are blended
alike.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from training.augment.cpu import BLUE, BRIGHTNESS, CONTRAST, CUT, GREEN, HUE, RED, SATURATION
from training.augment.params import Draws, Floats, homographies, overlap


def augment(frames_nhwc: Tensor, draws: Draws, erased_rgb: Tensor) -> Tensor:
    """Carry out `draws` on uint8 (n, S, S, 3) RGB; the input is not changed."""
    images = frames_nhwc.permute(0, 3, 1, 2).float()
    images, fill_n = _jitter(images, draws)
    images = _warp(images, fill_n, draws)
    x, y = _pixels(draws.size_px, images.device)
    x0, y0, x1, y1 = (_per_image(edge, images) for edge in draws.erase_n4.T)
    erased = (x >= x0) & (x < x1) & (y >= y0) & (y < y1)
    images = torch.where(erased, erased_rgb.to(images.device).view(1, 3, 1, 1), images)
    return images.round_().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def _jitter(images: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
    """Return the jittered images, levels 0 to 255, and what black became in each, (n, 1, 1, 1).

    Brightness, contrast and saturation are all a x + b grey(x) + c: each of the four steps takes one pass.
    """
    rows = np.arange(len(images))
    covered = _per_image(overlap(draws.angle_n), images)
    fill = torch.zeros_like(covered)
    for step in draws.order_n4.T:
        factor = draws.factors_n4[rows, step]
        still = (step == HUE) | (factor == 1)
        a = _per_image(np.where(still, 1, factor), images)
        b = _per_image(np.where(step == SATURATION, 1 - factor, 0), images)
        contrast = _per_image(np.where(step == CONTRAST, 1 - factor, 0), images)
        grey = _grey(images)
        offset = contrast * (covered * grey.mean((2, 3), keepdim=True) + (1 - covered) * fill)
        cut = _per_image(np.where(still, 0, CUT), images)
        images = (a * images + b * grey + (offset + cut)).round_().clamp_(0, 255)
        of_black = _per_image(np.where(np.isin(step, (BRIGHTNESS, CONTRAST)), factor, 1), images)
        fill = (of_black * fill + offset).clamp(0, 255)
        turned = np.flatnonzero(step == HUE)
        if turned.size:
            at = torch.from_numpy(turned).to(images.device, non_blocking=True)
            images[at] = _turn_hue(images[at], _per_image(draws.factors_n4[turned, HUE], images))
    grey_n = _per_image(draws.grey_n.astype(np.float64), images) > 0
    return torch.where(grey_n, _grey(images).round_(), images), fill


def _warp(images: Tensor, fill: Tensor, draws: Draws) -> Tensor:
    """Warp every image by its homography; what a transform moved out of the picture is black afterwards."""
    forward, later, perspective = homographies(draws)
    last = draws.size_px - 1
    x, y = _sources(forward, images)
    grid = torch.stack([x, y], -1).mul_(2 / last).sub_(1)
    warped = grid_sample(images - fill, grid, align_corners=True) + fill
    for maps in (later, perspective):
        if (maps != np.eye(3)).any():
            x, y = _sources(maps, images)
            inside = ((x - last / 2).abs() <= draws.size_px / 2) & ((y - last / 2).abs() <= draws.size_px / 2)
            warped *= inside[:, None]
    return warped


def _sources(forward_n33: Floats, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return x and y, each (n, S, S), of the point that comes to each pixel."""
    maps = torch.from_numpy(np.linalg.inv(forward_n33)).to(like.device, torch.float32, non_blocking=True)
    x, y = _pixels(like.shape[-1], like.device)
    rows = [m[:, :1, None] * x + m[:, 1:2, None] * y + m[:, 2:, None] for m in maps.unbind(1)]
    return rows[0] / rows[2], rows[1] / rows[2]


def _turn_hue(images: Tensor, turn: Tensor) -> Tensor:
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


def _grey(images: Tensor) -> Tensor:
    red, green, blue = images.unbind(1)
    return (RED * red + GREEN * green + BLUE * blue)[:, None]


def _per_image(values: Floats, like: Tensor) -> Tensor:
    """Return one number an image, (n, 1, 1, 1), on the device of `like`."""
    numbers = torch.from_numpy(np.ascontiguousarray(values, np.float32))
    return numbers.to(like.device, non_blocking=True).view(-1, 1, 1, 1)


def _pixels(size_px: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return x (1, S) and y (S, 1)."""
    line = torch.arange(size_px, device=device, dtype=torch.float32)
    return line[None], line[:, None]
