"""YOLOv8, 9, 11, 12, and v10 and 26 exported without their end-to-end head: one column a cell, without objectness."""

from __future__ import annotations

import numpy as np

from core.geometry.detector_config import DetectorInput
from inference.backends import Network
from inference.detectors import Detections, Outputs, to_corners

INPUT = DetectorInput()
SUPPRESSED = False


def matches(network: Network) -> bool:
    """Return whether there is one output (1, 4 + classes, cells), with more cells than rows."""
    shape = network.outputs[0].shape
    if len(network.outputs) != 1 or len(shape) != 3 or not shape[1]:
        return False
    return shape[1] > 4 and (shape[2] is None or shape[2] > shape[1])


def classes(network: Network) -> int | None:
    """Return how many classes the rows have."""
    return (network.outputs[0].shape[1] or 0) - 4


def decode(outputs: Outputs, size_hw: tuple[int, int], threshold: float) -> Detections:
    """Return each cell's best class. Source: `non_max_suppression` of ultralytics/utils/nms.py."""
    (raw,) = outputs.values()
    raw_kn = raw[0]
    # first of all, so that the rest handles a few boxes in place of all cells (8,400 at 640 px)
    raw_kn = raw_kn[:, raw_kn[4:].max(0) > threshold]
    scores_cn = raw_kn[4:]
    centered_n4 = np.ascontiguousarray(raw_kn[:4].T)
    return Detections(to_corners(centered_n4), scores_cn.max(0), scores_cn.argmax(0))
