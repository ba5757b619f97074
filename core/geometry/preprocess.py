"""Geometry, the one preprocessing: a rectangle of a BGR frame becomes S x S RGB bytes.

The pack writer, the evaluation, the calibrator, the benchmark and the camera all call `fill`.
Arithmetic (normalization, temperature, softmax) is inside the exported graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from core.errors import InputError, check_number
from core.geometry.frame import Bytes, Rect, Relative

KERNELS = ("halving", "area", "linear")
"""linear reads 4 pixels for each result, however far it shrinks. area reads all of them, slowly. halving averages 2x2
pixels while the result is still at least S x S, then is linear: nearly the picture of area, in a fifth of its time."""
DEFAULT_KERNEL = "halving"
SIZE_RANGE_PX = (32, 512)
PyramidBuffers = dict[tuple[int, int], Bytes]
"""Buffers of halved crops, by height and width."""
MAX_BUFFERS = 64


@dataclass(frozen=True)
class Geometry:
    """The part of the contract that decides which bytes the network sees."""

    size_px: int
    kernel: str = DEFAULT_KERNEL

    def __post_init__(self) -> None:
        check_number("geometry.size_px", self.size_px, *SIZE_RANGE_PX, whole=True)
        if self.kernel not in KERNELS:
            raise InputError(f"geometry.kernel is {self.kernel!r}: give one of {', '.join(KERNELS)}")

    def as_json(self) -> dict[str, Any]:
        """Return the JSON object that stands in packs, checkpoints and bundles."""
        return {"size_px": self.size_px, "kernel": self.kernel, "colour": "rgb", "fit": "stretch"}

    @classmethod
    def from_json(cls, value: Any) -> Geometry:
        """Read `as_json`'s object. Raises InputError naming the field."""
        if not isinstance(value, dict):
            raise InputError("geometry is not a JSON object")
        expected = cls(64).as_json()
        if set(value) != set(expected):
            raise InputError(f"geometry has the fields {sorted(value)}, expected {sorted(expected)}")
        for name in ("colour", "fit"):
            if value[name] != expected[name]:
                raise InputError(f"geometry.{name} is {value[name]!r}, this version knows only {expected[name]!r}")
        return cls(value["size_px"], value["kernel"])

    def empty(self, n: int) -> Bytes:
        """Return an uninitialized uint8 (n, S, S, 3) buffer."""
        return np.empty((n, self.size_px, self.size_px, 3), np.uint8)


def clip_rect(rect: Rect, width: int, height: int) -> Rect:
    """Return `rect` clipped to the frame and never empty: at least one pixel remains."""
    # the upper left corner lies inside the frame first, so that one pixel to its right and below always exists
    left, top, right, bottom = rect
    x0, y0 = min(max(left, 0), width - 1), min(max(top, 0), height - 1)
    return x0, y0, max(min(right, width), x0 + 1), max(min(bottom, height), y0 + 1)


def rect_of(relative: Relative, width: int, height: int) -> Rect:
    """Return a zone in pixels of a frame of this size, at least one pixel of it."""
    x0, y0, x1, y1 = relative
    left, top = round(x0 * width), round(y0 * height)
    right, bottom = round(x1 * width), round(y1 * height)
    return clip_rect((left, top, right, bottom), width, height)


def crop_rect(box: Rect, margin: float, width: int, height: int) -> Rect:
    """Return the rectangle to cut around an object: its box and `margin` of its sides as context, inside the frame."""
    x0, y0, x1, y1 = box
    dx, dy = round(margin * (x1 - x0)), round(margin * (y1 - y0))
    return clip_rect((x0 - dx, y0 - dy, x1 + dx, y1 + dy), width, height)


def fill(
    out_nhwc: Bytes, frame_bgr: Bytes, rects: Sequence[Rect], geometry: Geometry, buffers: PyramidBuffers | None = None
) -> None:
    """Crop each rectangle of `frame_bgr`, stretch it to S x S, and write it as RGB into `out_nhwc`.

    frame_bgr: uint8 (H, W, 3), not changed. out_nhwc: uint8 (>= len(rects), S, S, 3), C-contiguous,
    owned by the caller; rows past len(rects) are not touched. Rectangles are clipped to the frame.
    buffers: the caller's buffers for the halved crops, made at the first frame and used again at every other.
    """
    height, width = frame_bgr.shape[:2]
    size = geometry.size_px
    halving = geometry.kernel == "halving"
    kernel = cv2.INTER_AREA if geometry.kernel == "area" else cv2.INTER_LINEAR
    for i, rect in enumerate(rects):
        x0, y0, x1, y1 = clip_rect(rect, width, height)
        target = out_nhwc[i]
        crop = frame_bgr[y0:y1, x0:x1]  # a view: nothing is copied before the first resize
        while halving and min(crop.shape[:2]) >= 2 * size:
            crop = halve(crop, buffers)
        cv2.resize(crop, (size, size), dst=target, interpolation=kernel)
        # last and in place: the channels of S x S pixels are swapped, not those of the whole crop
        cv2.cvtColor(target, cv2.COLOR_BGR2RGB, dst=target)


def halve(crop: Bytes, buffers: PyramidBuffers | None = None) -> Bytes:
    """Average 2x2 pixels; an odd last row or column is left out."""
    height, width = crop.shape[0] // 2, crop.shape[1] // 2
    even = crop[: 2 * height, : 2 * width]  # OpenCV has a fast path for exact halves alone: 0.3 ms at 720p
    buffer = None if buffers is None else buffers.get((height, width))
    halved: Bytes = cv2.resize(even, (width, height), dst=buffer, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    if buffers is not None and buffer is None:
        if len(buffers) >= MAX_BUFFERS:  # boxes of a detector come in every size
            buffers.clear()
        buffers[height, width] = halved
    return halved


def whole(frame_bgr: Bytes) -> Rect:
    """Return the rectangle that covers the frame."""
    return 0, 0, frame_bgr.shape[1], frame_bgr.shape[0]


def decode(data: bytes | Bytes) -> Bytes | None:
    """Decode an image file's bytes to uint8 (H, W, 3) BGR, EXIF orientation applied; None when it cannot be."""
    buffer = np.frombuffer(data, np.uint8) if isinstance(data, bytes) else data
    if buffer.size == 0:
        return None
    try:
        image = cv2.imdecode(buffer, cv2.IMREAD_COLOR)
    except cv2.error:
        return None
    return None if image is None else np.asarray(image, np.uint8)
