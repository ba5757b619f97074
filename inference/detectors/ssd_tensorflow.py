"""SSD and others as TensorFlow's object detection API exports them: boxes as parts of the picture, classes from 1."""

from __future__ import annotations

import numpy as np

from core.geometry.detector_config import DetectorInput
from inference.backends import Network
from inference.detectors import Detections, Outputs

INPUT = DetectorInput(fit="stretch", std=1.0)
SUPPRESSED = True
OUTPUTS = ("detection_boxes", "detection_classes", "detection_scores", "num_detections")
ALL_SCORES = ("raw_detection_scores", "detection_multiclass_scores")
"""Outputs that some exports have besides, with a score for the background, which is number 0, and for each class."""


def matches(network: Network) -> bool:
    """Return whether there are the four outputs of the API, by their names."""
    return {_plain(tensor.name) for tensor in network.outputs} >= set(OUTPUTS)


def classes(network: Network) -> int | None:
    """Return how many classes there are, the background among them, where an output of all their scores says it."""
    sides = [tensor.shape[-1] for tensor in network.outputs if _plain(tensor.name) in ALL_SCORES]
    return sides[0] if sides else None


def decode(outputs: Outputs, size_hw: tuple[int, int], threshold: float) -> Detections:
    """Return the boxes whose score is over the threshold; rows after `num_detections` are padding.

    Source: `postprocess` of object_detection/exporter_main_v2.py: a box is ymin, xmin, ymax, xmax, 0 to 1.
    """
    named = {_plain(name): array for name, array in outputs.items()}
    boxes, labels, scores, count = (named[name] for name in OUTPUTS)
    n = int(count.ravel()[0])
    height, width = size_hw
    # from ymin, xmin, ymax, xmax
    parts_n4 = boxes.reshape(-1, 4)[:, [1, 0, 3, 2]]
    boxes_n4 = parts_n4 * np.array([width, height, width, height], np.float32)
    found = Detections(boxes_n4, scores.ravel(), labels.ravel().astype(np.int64)).select(slice(n))
    return found.select(found.scores_n > threshold)


def _plain(name: str) -> str:
    """Return the name without the number that a frozen graph adds: detection_boxes:0."""
    return name.partition(":")[0]
