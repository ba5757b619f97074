"""Why no box of a detector's answer can be used, where that is a fault of the file or its settings."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from core.geometry.detector_config import DetectorConfig
from inference.detectors import Detections, Outputs

RELATIVE_PX = 1.5
"""Boxes that all end before this pixel are no boxes in pixels: they count a side of the picture as 1."""
RELATIVE = (
    "gives boxes as parts of the picture, from 0 to 1, where its layout has them in pixels of the input: "
    "multiply them by width and height in the export"
)
SHOWN = 5


def find_nan(outputs: Outputs) -> str:
    """Return the outputs that hold NaN, and how much of each, as the end of a sentence; empty without NaN."""
    shares = {name: float(np.isnan(array).mean()) for name, array in outputs.items() if array.dtype.kind == "f"}
    told = ", ".join(f"{share:.1%} of {name}" for name, share in shares.items() if share > 0)
    return f"gives NaN ({told}): export it again, in fp32" if told else ""


def find_fault(found: Detections, counted: NDArray[np.int64], config: DetectorConfig) -> str:
    """Return why no box over the threshold can be used, as the end of a sentence; empty where one can, or none is over.

    found: as the layout decoded them. counted: the numbers of the classes that count; none where all do.
    """
    if not len(found):
        return ""
    finite = np.isfinite(found.boxes_n4).all(1) & np.isfinite(found.scores_n)
    if not finite.any():
        return f"gives infinite boxes alone ({len(found)} over the threshold): export it again, in fp32"
    if found.boxes_n4[finite].max() <= RELATIVE_PX:
        return RELATIVE
    if not len(counted) or np.isin(found.classes_n, counted).any():
        return ""
    names = dict(enumerate(config.names))
    numbers = np.unique(found.classes_n).tolist()
    given = ", ".join(names.get(number, f"number {number}, which has no name") for number in numbers[:SHOWN])
    return (
        f"gives no box of a class that counts ({', '.join(config.counts)}), but {len(found)} of {given}: "
        "state names and counts that are the detector's, or give --frames that show these classes"
    )
