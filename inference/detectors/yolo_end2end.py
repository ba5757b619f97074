"""YOLO with the suppression in its graph: v10 and 26 end to end, and Ultralytics' exports with nms=True."""

from __future__ import annotations

import numpy as np

from core.geometry.detector_config import DetectorInput
from inference.backends import Network
from inference.detectors import Detections, Outputs, count_cells, size_of

INPUT = DetectorInput()
SUPPRESSED = True


def matches(network: Network) -> bool:
    """Return whether there is one output (1, boxes, 6) that is neither a grid of cells nor a transformer's."""
    shape = network.outputs[0].shape
    if len(network.outputs) != 1 or len(shape) != 3 or shape[2] != 6:
        return False
    if network.metadata.get("head") == "RTDETRDecoder":
        return False
    # six values may also be box, objectness and one class, as of YOLOX and YOLOv5: those have a row for each cell
    size_hw = size_of(network)
    grid = count_cells(size_hw) if size_hw else 0
    return "end2end" in network.metadata or shape[1] not in (grid, 3 * grid)


def classes(network: Network) -> int | None:
    """Return None: a row names its class, and no shape says how many there are."""
    return None


def decode(outputs: Outputs, size_hw: tuple[int, int], threshold: float) -> Detections:
    """Return the rows x0, y0, x1, y1, score, class whose score is over the threshold."""
    (raw,) = outputs.values()
    kept = raw[0, raw[0, :, 4] > threshold]
    return Detections(kept[:, :4], kept[:, 4], kept[:, 5].astype(np.int64))
