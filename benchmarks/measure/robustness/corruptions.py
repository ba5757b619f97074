"""Corruptions of a rear camera's image at five severities: weather, dirt, motion, focus, night, glare, the codec.

Names and idea are those of ImageNet-C (Hendrycks and Dietterich, 2019), whose packages are no longer maintained and
whose constants are for 224 px. These are deterministic and scale with the image: lengths are parts of its side.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from core.geometry.frame import Bytes

ImageFloats = NDArray[np.float32]
AnyArray = Any
"""An array of any number type; `corrupt` rounds it."""


def corrupt(image: Bytes, name: str, severity: int, seed: int) -> Bytes:
    """Return a corrupted copy. image: uint8 (S, S, 3) RGB. The same arguments give the same bytes."""
    strength = severity - 1
    random = np.random.default_rng((seed, severity, list(CORRUPTIONS).index(name)))
    out: ImageFloats = CORRUPTIONS[name](image.astype(np.float32), strength, random).astype(np.float32)
    return np.clip(np.rint(out), 0, 255).astype(np.uint8)


def fog(image: ImageFloats, strength: int, random: np.random.Generator) -> AnyArray:
    """Blend with bright, uneven airlight: contrast falls, brightness rises. Koschmieder's law with varying depth."""
    density = (0.25, 0.4, 0.52, 0.64, 0.75)[strength]
    clouds = 0.8 + 0.4 * _smooth_noise(image.shape, random, part=0.3)
    share = np.clip(density * clouds, 0, 1)[..., None]
    return image * (1 - share) + 215 * share


def rain(image: ImageFloats, strength: int, random: np.random.Generator) -> AnyArray:
    """Add bright slanted streaks, and darken the scene."""
    size = image.shape[0]
    drops = np.zeros(image.shape[:2], np.float32)
    drops[random.random(image.shape[:2]) < (0.006, 0.012, 0.02, 0.03, 0.045)[strength]] = 1
    length = max(3, round(size * (0.08, 0.1, 0.13, 0.16, 0.2)[strength]))
    streaks = cv2.filter2D(drops, -1, _line_kernel(length, angle_deg=75)) * length
    dull = image * (0.95, 0.9, 0.85, 0.8, 0.72)[strength]
    return dull + np.clip(cv2.blur(streaks, (2, 2)), 0, 0.8)[..., None] * 130


def spatter(image: ImageFloats, strength: int, random: np.random.Generator) -> AnyArray:
    """Cover parts with out-of-focus brown patches, as of mud on the lens."""
    cover = (0.05, 0.12, 0.2, 0.3, 0.42)[strength]
    noise = _smooth_noise(image.shape, random, part=0.09)
    edge = float(np.quantile(noise, 1 - cover))
    mask = np.clip((noise - edge) * 14 + 0.5, 0, 1)[..., None]
    mud = np.array([72, 58, 42], np.float32)
    return image * (1 - 0.92 * mask) + mud * 0.92 * mask


def motion_blur(image: ImageFloats, strength: int, random: np.random.Generator) -> AnyArray:
    """Blur along a line, as a long exposure does while the car turns."""
    # odd, since a kernel of even length also shifts the picture
    length = max(3, round(image.shape[0] * (0.04, 0.07, 0.1, 0.14, 0.19)[strength]) | 1)
    kernel = _line_kernel(length, angle_deg=float(random.uniform(-20, 20)))
    return cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REPLICATE)


def defocus(image: ImageFloats, strength: int, random: np.random.Generator) -> AnyArray:
    """Blur with a disc, as a lens out of focus does."""
    radius = image.shape[0] * (0.012, 0.02, 0.03, 0.042, 0.058)[strength]
    reach = int(np.ceil(radius)) + 1
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disc = np.clip(radius + 0.5 - np.hypot(x, y), 0, 1)
    return cv2.filter2D(image, -1, disc / disc.sum(), borderType=cv2.BORDER_REPLICATE)


def low_light(image: ImageFloats, strength: int, random: np.random.Generator) -> AnyArray:
    """Imitate a sensor at night: few photons, shot noise and read noise, amplified by gain."""
    photons = (140, 70, 40, 22, 12)[strength]
    darker = (0.75, 0.62, 0.5, 0.4, 0.32)[strength]
    linear = (image / 255) ** 2.2 * darker  # undo the display gamma: photons are counted in linear light
    counted = random.poisson(linear * photons) + random.normal(0, 0.6, image.shape)
    return np.clip(counted / photons, 0, 1) ** (1 / 2.2) * 255


def glare(image: ImageFloats, strength: int, random: np.random.Generator) -> AnyArray:
    """Add a bright disc and a veil over everything, as of a low sun or headlights."""
    size = image.shape[0]
    x, y = random.uniform(0.2, 0.8, 2) * size
    distance = np.hypot(*(axis - at for axis, at in zip(np.mgrid[:size, :size], (y, x), strict=True)))
    width = size * (0.1, 0.15, 0.2, 0.27, 0.35)[strength]
    light = 255 * np.exp(-((distance / width) ** 2)) + (10, 25, 40, 60, 85)[strength]
    return image + light[..., None]


def jpeg(image: ImageFloats, strength: int, random: np.random.Generator) -> AnyArray:
    """Compress as JPEG of low quality."""
    quality = (35, 22, 14, 9, 5)[strength]
    coded = cv2.imencode(".jpg", image.astype(np.uint8)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    decoded = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR))
    return decoded[..., ::-1]


def contrast(image: ImageFloats, strength: int, random: np.random.Generator) -> AnyArray:
    """Move all values toward the mean, as flat light does."""
    mean = image.mean((0, 1), keepdims=True)
    return (image - mean) * (0.6, 0.45, 0.3, 0.2, 0.12)[strength] + mean


CORRUPTIONS: dict[str, Callable[[ImageFloats, int, np.random.Generator], AnyArray]] = {
    function.__name__.replace("_", " "): function
    for function in (fog, rain, spatter, motion_blur, defocus, low_light, glare, jpeg, contrast)
}


def _smooth_noise(shape: tuple[int, ...], random: np.random.Generator, part: float) -> ImageFloats:
    """Return noise in 0..1, float32 (H, W), whose grain is `part` of the side."""
    cells = max(2, round(1 / part))
    coarse = random.random((cells + 2, cells + 2), dtype=np.float32)
    return np.clip(np.asarray(cv2.resize(coarse, shape[1::-1], interpolation=cv2.INTER_CUBIC), np.float32), 0, 1)


def _line_kernel(length: int, angle_deg: float) -> ImageFloats:
    kernel = np.zeros((length, length), np.float32)
    middle, reach = (length - 1) / 2, (length - 1) / 2
    dx, dy = reach * np.cos(np.radians(angle_deg)), reach * np.sin(np.radians(angle_deg))
    ends = [(round(middle - dx), round(middle - dy)), (round(middle + dx), round(middle + dy))]
    cv2.line(kernel, ends[0], ends[1], 1.0)
    return np.asarray(kernel / kernel.sum(), np.float32)
