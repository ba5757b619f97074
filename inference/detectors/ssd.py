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
    if len(network.outputs) != 3:
        return False
    floats = [t for t in network.outputs if t.dtype.startswith("float")]
    boxes = [t for t in floats if t.shape and t.shape[-1] == 4]
    labels = [t for t in network.outputs if t.dtype.startswith("int")]
    return len(boxes) == 1 and len(labels) == 1


def classes(network: Network) -> int | None:
    """Return None: a row names its class, and no shape says how many there are."""
    return None


def decode(outputs: Outputs, size_hw: tuple[int, int], threshold: float) -> Detections:
    """Return the boxes, x0, y0, x1, y1 in pixels of the input, whose score is over the threshold."""
    # told apart by shape and type, since every exporter names them otherwise; the scores of four detections end in 4 as
    # well, but have one axis
    boxes_n4 = next(a for a in outputs.values() if a.shape[-1] == 4 and a.ndim > 1).reshape(-1, 4)
    labels_n = next(a for a in outputs.values() if a.dtype.kind == "i").ravel()
    floats = [array for array in outputs.values() if array.dtype.kind == "f"]
    scores_n = next(array for array in floats if array.size == len(labels_n)).ravel()
    return Detections(boxes_n4, scores_n, labels_n.astype(np.int64)).select(scores_n > threshold)
