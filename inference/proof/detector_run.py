"""Run the golden frames of a bundle's detector through an open one and compare."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from core.bundle import golden_detections
from core.bundle.contract import DETECTOR, Bundle
from core.bundle.golden_file import GoldenCheck
from core.geometry.detector_config import DetectorFile
from core.geometry.frame import Bytes
from inference.detectors import Detections
from inference.frame.detection.detector import Detector, open_detector


def check(bundle: Bundle, detector: Detector) -> tuple[GoldenCheck, ...]:
    """Return one row a check. Raises InputError when the golden file is missing or not the one that was proved."""
    golden = golden_detections.load_golden_detections(bundle.check_file(golden_detections.NAME))
    found = [detect_rows(detector, frame) for frame in golden.frames]
    return golden_detections.compare_detections(detector.backend, found, golden, detector.config.threshold)


def detect_rows(detector: Detector, frame_bgr: Bytes) -> NDArray[np.float32]:
    """Return the detections in a frame, float32 (n, 6): x0, y0, x1, y1, score, class; none where it gives NaN."""
    return as_rows(detector.detect(frame_bgr))


def as_rows(found: Detections | None) -> NDArray[np.float32]:
    """Return detections in the form of the golden file, float32 (n, 6); none for None."""
    if found is None:
        return np.empty((0, 6), np.float32)
    # the number of a class is exact in float32
    return np.column_stack([found.boxes_n4, found.scores_n, found.classes_n]).astype(np.float32)


def check_file(bundle: Bundle, backend: str, threads: int | None) -> tuple[GoldenCheck, ...]:
    """Open the bundle's detector on a backend and check it; where all passed, an engine's manifest says so.

    Returns no row for a bundle without a detector.
    """
    if bundle.detector is None:
        return ()
    detector = open_detector(DetectorFile(bundle.check_file(DETECTOR), bundle.detector), backend, threads)
    try:
        rows = check(bundle, detector)
        if all(row.passed for row in rows):
            detector.mark_proved()
        return rows
    finally:
        detector.close()
