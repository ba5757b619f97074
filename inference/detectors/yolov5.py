"""YOLOv5 and v7: one row for each of three anchors of each cell: box by its center in pixels, objectness, classes."""

from __future__ import annotations

import numpy as np

from core.geometry.detector_config import DetectorInput
from inference.backends import Network
from inference.detectors import Detections, Outputs, count_cells, size_of, to_corners

INPUT = DetectorInput()
SUPPRESSED = False
ANCHORS = 3


def matches(network: Network) -> bool:
    """Return whether there is an output (1, 3 cells, 5 + classes)."""
    shape, size_hw = network.outputs[0].shape, size_of(network)
    if len(shape) != 3 or size_hw is None or shape[1] != ANCHORS * count_cells(size_hw):
        return False
    return (shape[2] or 0) > 5


def classes(network: Network) -> int | None:
    """Return how many classes the rows have."""
    return (network.outputs[0].shape[2] or 0) - 5


def decode(outputs: Outputs, size_hw: tuple[int, int], threshold: float) -> Detections:
    """Return each row's best class. Source: `non_max_suppression` of yolov5/utils/general.py."""
    raw = next(iter(outputs.values()))
    raw_nk = raw[0, raw[0, :, 4] > threshold]  # a score is at most its objectness
    classes_n = raw_nk[:, 5:].argmax(1)
    scores_n = raw_nk[:, 4] * raw_nk[np.arange(len(raw_nk)), 5 + classes_n]
    return Detections(to_corners(raw_nk[:, :4]), scores_n, classes_n).select(scores_n > threshold)
