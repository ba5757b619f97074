"""SSD, torchvision's detectors and RT-DETR's own export: boxes, labels and scores as three outputs."""

from __future__ import annotations

import numpy as np

from core.geometry.detector_config import DetectorInput
from inference.backends import Network
from inference.detectors import Detections, Outputs

INPUT = DetectorInput(fit="stretch")
SUPPRESSED = True


def matches(network: Network) -> bool:
    """Return whether there are boxes (n, 4), whole-number labels (n) and scores (n), with or without a batch axis."""
    floats = [t for t in network.outputs if t.dtype.startswith("float")]
    labels = [t for t in network.outputs if t.dtype.startswith("int")]
    if (len(network.outputs), len(floats), len(labels)) != (3, 2, 1):
        return False
    # the scores of four detections end in 4 as well, but have an axis less
    axes = max(len(t.shape) for t in floats)
    boxes = [t for t in floats if t.shape and t.shape[-1] == 4 and len(t.shape) == axes]
    return len(boxes) == 1


def classes(network: Network) -> int | None:
    """Return None: a row names its class, and no shape says how many there are."""
    return None


def decode(outputs: Outputs, size_hw: tuple[int, int], threshold: float) -> Detections:
    """Return the boxes, x0, y0, x1, y1 in pixels of the input, whose score is over the threshold."""
    # told apart by type and size, since every exporter names them otherwise: a shape that ends in 4 may be four labels
    labels_n = next(array for array in outputs.values() if array.dtype.kind == "i").ravel()
    floats = [array for array in outputs.values() if array.dtype.kind == "f"]
    boxes_n4 = next(array for array in floats if array.size == 4 * len(labels_n)).reshape(-1, 4)
    scores_n = next(array for array in floats if array.size == len(labels_n)).ravel()
    return Detections(boxes_n4, scores_n, labels_n.astype(np.int64)).select(scores_n > threshold)
