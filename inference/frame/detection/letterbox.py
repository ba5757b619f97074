"""Fits a frame into a detector's input, and maps the detector's boxes back into the frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from core.geometry.detector_config import DetectorInput
from core.geometry.frame import Bytes
from inference.detectors import Floats


@dataclass(frozen=True)
class Placement:
    """The place of a picture in the input: resized to width x height, at left, top."""

    width: int
    height: int
    left: int
    top: int


def place_picture(fit: str, size_hw: tuple[int, int], picture_hw: tuple[int, int]) -> Placement:
    """Return where a picture of this size lies in an input of this size.

    Source: `LetterBox` of ultralytics/data/augment.py for center, `preproc` of yolox/data/data_augment.py for top_left.
    """
    if fit == "stretch":
        return Placement(size_hw[1], size_hw[0], 0, 0)
    gain = min(size_hw[0] / picture_hw[0], size_hw[1] / picture_hw[1])
    if fit == "top_left":
        height, width = (max(int(side * gain), 1) for side in picture_hw)
        return Placement(width, height, 0, 0)
    height, width = (max(round(side * gain), 1) for side in picture_hw)
    # the 0.1 is Ultralytics': of an odd padding the smaller half goes left and above
    left = round((size_hw[1] - width) / 2 - 0.1)
    top = round((size_hw[0] - height) / 2 - 0.1)
    return Placement(width, height, left, top)


class Letterbox:
    """Fits pictures into one input, through buffers that every picture uses again."""

    def __init__(self, config: DetectorInput, size_hw: tuple[int, int], dtype: str, channels_last: bool) -> None:
        self._config, self._size_hw = config, size_hw
        self._canvas: Bytes = np.full((*size_hw, 3), config.pad, np.uint8)
        shape = (*size_hw, 3) if channels_last else (3, *size_hw)
        self.input: NDArray[Any] = np.empty((1, *shape), dtype)
        """The last picture as the network takes it, with a batch axis; overwritten by the next."""
        along = (3,) if channels_last else (3, 1, 1)
        mean = np.broadcast_to(np.array(config.mean, np.float32), 3).reshape(along)
        std = np.broadcast_to(np.array(config.std, np.float32), 3).reshape(along)
        # (pixel - mean) / std as one product and one sum over the whole input: scale and shift are computed once
        self._scale = 1 / std
        self._shift = -mean / std
        # a view of the canvas in the network's order of colors and axes: no copy between resize and product
        colors = self._canvas[..., ::-1] if config.color == "rgb" else self._canvas
        self._canvas_as_input = colors if channels_last else colors.transpose(2, 0, 1)
        self._placed: Placement | None = None

    def fill(self, picture_bgr: Bytes) -> Placement:
        """Write a picture, uint8 (H, W, 3), into `input`; return where it lies there."""
        placed = place_picture(self._config.fit, self._size_hw, (picture_bgr.shape[0], picture_bgr.shape[1]))
        if placed != self._placed:  # only another size leaves padding of the last one to be cleared
            self._canvas[:] = self._config.pad
            self._placed = placed
        inside = self._canvas[placed.top : placed.top + placed.height, placed.left : placed.left + placed.width]
        cv2.resize(picture_bgr, (placed.width, placed.height), dst=inside, interpolation=cv2.INTER_LINEAR)
        np.multiply(self._canvas_as_input, self._scale, out=self.input[0], casting="unsafe")
        if self._shift.any():
            self.input[0] += self._shift
        return placed


def to_picture(boxes_n4: Floats, placed: Placement, picture_hw: tuple[int, int]) -> Floats:
    """Return boxes in pixels of the picture, clipped to it. boxes_n4: in pixels of the input."""
    height, width = picture_hw
    gain = np.array([placed.width / width, placed.height / height] * 2, np.float32)
    offset = np.array([placed.left, placed.top] * 2, np.float32)
    edge = np.array([width, height] * 2, np.float32)
    inside: Floats = np.clip((boxes_n4 - offset) / gain, 0, edge)
    return inside
