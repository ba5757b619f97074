"""YOLOX as Megvii exports it: raw cells of the strides 8, 16 and 32, one row for each: box, objectness, classes."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from core.geometry.detector_config import DetectorInput
from inference.backends import Network
from inference.detectors import Detections, Floats, Outputs, count_cells, size_of, to_corners

INPUT = DetectorInput(fit="top_left", color="bgr", std=1.0)
SUPPRESSED = False
STRIDES = (8, 16, 32)


def matches(network: Network) -> bool:
    """Return whether there is one output (1, cells, 5 + classes)."""
    shape, size_hw = network.outputs[0].shape, size_of(network)
    if len(network.outputs) != 1 or len(shape) != 3 or size_hw is None or "end2end" in network.metadata:
        return False
    return shape[1] == count_cells(size_hw) and (shape[2] or 0) > 5


def classes(network: Network) -> int | None:
    """Return how many classes the rows have."""
    return (network.outputs[0].shape[2] or 0) - 5


def decode(outputs: Outputs, size_hw: tuple[int, int], threshold: float) -> Detections:
    """Return each cell's best class. Source: `demo_postprocess` of YOLOX/yolox/utils/demo_utils.py."""
    (raw,) = outputs.values()
    rows = np.flatnonzero(raw[0, :, 4] > threshold)  # a score is at most its objectness
    raw_nk = raw[0, rows]
    classes_n = raw_nk[:, 5:].argmax(1)
    scores_n = raw_nk[:, 4] * raw_nk[np.arange(len(rows)), 5 + classes_n]
    corner_n2, stride_n1 = _grid(size_hw)
    stride = stride_n1[rows]
    # a center counts from the corner of its cell, in cells; a side is the logarithm of a number of cells
    centers = (raw_nk[:, :2] + corner_n2[rows]) * stride
    sides = np.exp(raw_nk[:, 2:4]) * stride
    boxes = to_corners(np.concatenate([centers, sides], 1))
    return Detections(boxes, scores_n, classes_n).select(scores_n > threshold)


@lru_cache(maxsize=8)
def _grid(size_hw: tuple[int, int]) -> tuple[Floats, Floats]:
    """Return each cell's column and row, float32 (n, 2), and its stride, float32 (n, 1)."""
    corner, stride = [], []
    for step in STRIDES:
        y, x = np.mgrid[: size_hw[0] // step, : size_hw[1] // step]
        corner.append(np.stack([x.ravel(), y.ravel()], 1))
        stride.append(np.full((x.size, 1), step))
    return np.concatenate(corner).astype(np.float32), np.concatenate(stride).astype(np.float32)
