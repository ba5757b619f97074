"""RT-DETR: boxes by their center as parts of the input, scores of each class; from Ultralytics or from transformers."""

from __future__ import annotations

import numpy as np

from core.geometry.detector_config import DetectorInput
from inference.backends import Network
from inference.detectors import Detections, Floats, Outputs, count_cells, size_of, to_corners

INPUT = DetectorInput(fit="stretch")
SUPPRESSED = True
QUERIES = 1000
"""More rows than this are cells of a grid, not queries of a transformer."""
DETR_LOGITS = 92
"""COCO's logits of DETR and YOLOS, whose outputs have the same names: a softmax with a class for no object."""


def matches(network: Network) -> bool:
    """Return whether there are queries: `logits` with `pred_boxes`, or one output (1, queries, 4 + classes)."""
    if {tensor.name for tensor in network.outputs} == {"logits", "pred_boxes"}:
        return all(len(tensor.shape) == 3 for tensor in network.outputs) and classes(network) != DETR_LOGITS
    shape = network.outputs[0].shape
    if len(network.outputs) != 1 or len(shape) != 3:
        return False
    if network.metadata.get("head") == "RTDETRDecoder":
        return True
    # rows as many as a grid has cells, one or three for each, are those of YOLOX or YOLOv5
    size_hw = size_of(network)
    grid = count_cells(size_hw) if size_hw else 0
    queries, values = shape[1] or 0, shape[2] or 0
    return 6 < values < queries <= QUERIES and queries not in (grid, 3 * grid)


def classes(network: Network) -> int | None:
    """Return how many classes the rows have; None where no shape says it."""
    if network.metadata.get("head") == "RTDETRDecoder" and network.outputs[0].shape[2] == 6:
        return None
    logits = [tensor.shape[2] for tensor in network.outputs if tensor.name == "logits"]
    return logits[0] if logits else (network.outputs[0].shape[2] or 0) - 4


def decode(outputs: Outputs, size_hw: tuple[int, int], threshold: float) -> Detections:
    """Return each query's best class.

    Source: `RTDETRPredictor.postprocess` of ultralytics/models/rtdetr/predict.py, and
    `RTDetrImageProcessor.post_process_object_detection` of transformers, whose logits go through a sigmoid.
    """
    height, width = size_hw
    if "logits" in outputs:
        boxes_n4 = outputs["pred_boxes"][0]
        scores_n, classes_n = _best(1 / (1 + np.exp(-outputs["logits"][0])))
    else:
        (raw,) = outputs.values()
        boxes_n4, rest = raw[0, :, :4], raw[0, :, 4:]
        # Ultralytics ranks inside the graph since 8.4: score and class, in place of classes
        ranked = rest.shape[1] == 2
        scores_n, classes_n = (rest[:, 0], rest[:, 1].astype(np.int64)) if ranked else _best(rest)
    boxes = to_corners(boxes_n4) * np.array([width, height, width, height], np.float32)
    return Detections(boxes, scores_n, classes_n).select(scores_n > threshold)


def _best(scores_nc: Floats) -> tuple[Floats, np.ndarray]:
    return scores_nc.max(1), scores_nc.argmax(1)
