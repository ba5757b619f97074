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
    # each corruption and severity draws numbers of its own: one that is added at the end changes no other
    random = np.random.default_rng((seed, severity, list(CORRUPTIONS).index(name)))
    corrupted = CORRUPTIONS[name](image.astype(np.float32), severity - 1, random)
    rounded = np.rint(np.asarray(corrupted, np.float32))
    return np.clip(rounded, 0, 255).astype(np.uint8)


def fog(image: ImageFloats, strength: int, random: np.random.Generator) -> AnyArray:
    """Blend with bright, uneven airlight: contrast falls, brightness rises. Koschmieder's law with varying depth."""
    density = (0.25, 0.4, 0.52, 0.64, 0.75)[strength]
    clouds = 0.8 + 0.4 * _smooth_noise(image.shape, random, part=0.3)
    share = np.clip(density * clouds, 0, 1)[..., None]
    return image * (1 - share) + 215 * share  # 215: the gray of a bright overcast sky


def rain(image: ImageFloats, strength: int, random: np.random.Generator) -> AnyArray:
    """Add bright slanted streaks, and darken the scene."""
    size = image.shape[0]
    density = (0.006, 0.012, 0.02, 0.03, 0.045)[strength]
    drops = np.asarray(random.random(image.shape[:2]) < density, np.float32)
    length = max(3, round(size * (0.08, 0.1, 0.13, 0.16, 0.2)[strength]))
    # the kernel's sum is 1, so that a streak would fade as it grows: times its length every streak is equally bright
    streaks = cv2.filter2D(drops, -1, _line_kernel(length, angle_deg=75)) * length
    dull = image * (0.95, 0.9, 0.85, 0.8, 0.72)[strength]
    visible = np.clip(cv2.blur(streaks, (2, 2)), 0, 0.8)  # a streak lets the scene shine through
    return dull + visible[..., None] * 130


def spatter(image: ImageFloats, strength: int, random: np.random.Generator) -> AnyArray:
    """Cover parts with out-of-focus brown patches, as of mud on the lens."""
    cover = (0.05, 0.12, 0.2, 0.3, 0.42)[strength]
    noise = _smooth_noise(image.shape, random, part=0.09)
    # the threshold that leaves this part covered, whatever the noise; the slope of 14 makes the borders soft
    threshold = float(np.quantile(noise, 1 - cover))
    mask = np.clip((noise - threshold) * 14 + 0.5, 0, 1)[..., None]
    mud = np.array([72, 58, 42], np.float32)
    return image * (1 - 0.92 * mask) + mud * 0.92 * mask


def motion_blur(image: ImageFloats, strength: int, random: np.random.Generator) -> AnyArray:
    """Blur along a line, as a long exposure does while the car turns."""
    length = round(image.shape[0] * (0.04, 0.07, 0.1, 0.14, 0.19)[strength])
    length = max(3, length | 1)  # odd, since a kernel of even length also shifts the image
    angle_deg = float(random.uniform(-20, 20))  # a car turns more than it pitches: the blur is nearly horizontal
    kernel = _line_kernel(length, angle_deg)
    return cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REPLICATE)


def defocus(image: ImageFloats, strength: int, random: np.random.Generator) -> AnyArray:
    """Blur with a disc, as a lens out of focus does."""
    radius = image.shape[0] * (0.012, 0.02, 0.03, 0.042, 0.058)[strength]
    reach = int(np.ceil(radius)) + 1
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    # pixels on the rim count in part: at small sizes a disc of whole pixels would jump between severities
    disc = np.clip(radius + 0.5 - np.hypot(x, y), 0, 1)
    return cv2.filter2D(image, -1, disc / disc.sum(), borderType=cv2.BORDER_REPLICATE)


def low_light(image: ImageFloats, strength: int, random: np.random.Generator) -> AnyArray:
    """Imitate a sensor at night: few photons, shot noise and read noise, amplified by gain."""
    photons = (140, 70, 40, 22, 12)[strength]
    darker = (0.75, 0.62, 0.5, 0.4, 0.32)[strength]
    linear = (image / 255) ** 2.2 * darker  # undo the display gamma: photons are counted in linear light
    counted = random.poisson(linear * photons) + random.normal(0, 0.6, image.shape)  # shot noise, then read noise
    return np.clip(counted / photons, 0, 1) ** (1 / 2.2) * 255


def glare(image: ImageFloats, strength: int, random: np.random.Generator) -> AnyArray:
    """Add a bright disc and a veil over everything, as of a low sun or headlights."""
    size = image.shape[0]
    x, y = random.uniform(0.2, 0.8, 2) * size
    rows, columns = np.mgrid[:size, :size]
    distance = np.hypot(rows - y, columns - x)
    width = size * (0.1, 0.15, 0.2, 0.27, 0.35)[strength]
    veil = (10, 25, 40, 60, 85)[strength]  # light that the lens scatters over the whole image
    light = 255 * np.exp(-((distance / width) ** 2)) + veil
    return image + light[..., None]


def jpeg(image: ImageFloats, strength: int, random: np.random.Generator) -> AnyArray:
    """Compress as JPEG of low quality."""
    quality = (35, 22, 14, 9, 5)[strength]
    image_bgr = image.astype(np.uint8)[..., ::-1]  # OpenCV's order: in RGB the codec would take red for blue
    encoded = cv2.imencode(".jpg", image_bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    decoded_bgr = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR))
    return decoded_bgr[..., ::-1]


def contrast(image: ImageFloats, strength: int, random: np.random.Generator) -> AnyArray:
    """Move all values toward the mean, as flat light does."""
    mean = image.mean((0, 1), keepdims=True)  # of each channel, so that the colors fade, too
    return (image - mean) * (0.6, 0.45, 0.3, 0.2, 0.12)[strength] + mean


CORRUPTIONS: dict[str, Callable[[ImageFloats, int, np.random.Generator], AnyArray]] = {
    function.__name__.replace("_", " "): function
    for function in (fog, rain, spatter, motion_blur, defocus, low_light, glare, jpeg, contrast)
}


def _smooth_noise(shape: tuple[int, ...], random: np.random.Generator, part: float) -> ImageFloats:
    """Return noise in 0..1, float32 (H, W), whose grain is `part` of the side."""
    cells = max(2, round(1 / part))
    coarse = random.random((cells + 2, cells + 2), dtype=np.float32)
    smooth = np.asarray(cv2.resize(coarse, shape[1::-1], interpolation=cv2.INTER_CUBIC), np.float32)
    return np.clip(smooth, 0, 1)  # cubic interpolation overshoots


def _line_kernel(length: int, angle_deg: float) -> ImageFloats:
    """Return a line through the middle as a kernel whose sum is 1, float32 (length, length)."""
    kernel = np.zeros((length, length), np.float32)
    middle = (length - 1) / 2
    angle = np.radians(angle_deg)
    dx, dy = middle * np.cos(angle), middle * np.sin(angle)
    start = (round(middle - dx), round(middle - dy))
    end = (round(middle + dx), round(middle + dy))
    cv2.line(kernel, start, end, 1.0)
    return np.asarray(kernel / kernel.sum(), np.float32)
