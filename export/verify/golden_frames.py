"""Make the golden frames: rows of the pack, drawn into frames of several sizes, the same every time."""

from __future__ import annotations

import cv2
import numpy as np

from core.bundle.golden_file import Golden, expected_bytes
from core.geometry.frame import Bytes
from core.geometry.preprocess import Geometry

REGIONS = 8
"""The largest number of rows: the self-test takes milliseconds, the file a few megabytes at 224 px."""
FRAMES = ((3, 1.7, 1.4), (3, 0.8, 1.3), (2, 1.0, 1.0))
"""For each frame: the number of rows side by side, and the width and height of each as multiples of S.

So geometry has to shrink, to stretch, and to copy.
"""
MARGIN_PX = 9


def draw(images_rhwc: Bytes, geometry: Geometry) -> Golden:
    """Draw rows (uint8 RGB, any square size) into frames; return them with their rectangles, without probabilities.

    Each frame also has a rectangle that reaches over its edge, as a zone of a camera can.
    """
    frames: list[Bytes] = []
    rects: list[tuple[int, int, int, int]] = []
    frame_of: list[int] = []
    queue = list(images_rhwc)
    for count, wider, higher in FRAMES:
        taken, queue = queue[:count], queue[count:]
        if not taken:
            break
        width = round(geometry.size_px * wider)
        height = round(geometry.size_px * higher)
        frame_width = (width + MARGIN_PX) * len(taken) + MARGIN_PX
        frame = np.full((height + 2 * MARGIN_PX, frame_width, 3), 96, np.uint8)
        for i, image in enumerate(taken):
            x0 = MARGIN_PX + i * (width + MARGIN_PX)
            bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)  # as a camera gives it; geometry turns it back
            drawn = cv2.resize(bgr, (width, height), interpolation=cv2.INTER_LINEAR)
            frame[MARGIN_PX : MARGIN_PX + height, x0 : x0 + width] = drawn
            rects.append((x0, MARGIN_PX, x0 + width, MARGIN_PX + height))
            frame_of.append(len(frames))
        # this one reaches over the upper left corner: clipping is part of the geometry that is proved
        rects.append((-MARGIN_PX, -MARGIN_PX, MARGIN_PX + width, MARGIN_PX + height))
        frame_of.append(len(frames))
        frames.append(frame)
    rects_r4 = np.array(rects, np.int32)
    frame_of_r = np.array(frame_of, np.int32)
    # the expected pixels come from the code that the car runs; other builds of OpenCV may differ by GRAY_LEVELS
    made = expected_bytes(tuple(frames), rects_r4, frame_of_r, geometry)
    return Golden(tuple(frames), rects_r4, frame_of_r, made, {})
