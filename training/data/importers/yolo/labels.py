"""YOLO's label files: one object a line, read as Ultralytics reads them, but line by line.

Ultralytics passes over a picture for one bad line; here the line alone is left out, counted and named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from training.data.detections.annotated_boxes import AnnotatedBox
from training.data.detections.annotation_files import (
    Labels,
    boxes_of,
    number_of,
    read_label_lines,
    unreadable,
    whole_of,
)

TOLERANCE = 0.01
"""Coordinates may leave 0..1 by this. Source: ultralytics/data/utils.py, verify_image_label."""
VISIBILITIES = {0.0, 1.0, 2.0}
"""Values after each key point: not labeled, hidden, visible."""


def label_file_of(image: Path) -> Path:
    """Return a picture's label file: the last folder `images` of its path becomes `labels`, or it is beside it."""
    parts = list(image.parts)
    if "images" not in parts:
        return image.with_suffix(".txt")
    # the last one, as Ultralytics replaces it: a folder above may be called so, too
    last = len(parts) - 1 - parts[::-1].index("images")
    parts[last] = "labels"
    file = Path(*parts).with_suffix(".txt")
    beside = image.with_suffix(".txt")
    return beside if beside.is_file() and not file.is_file() else file


@dataclass(frozen=True)
class LabelReader:
    """Reads label files of one data set."""

    names: Sequence[str]
    keypoint_values: int = 0
    """The number of values of key points after each box: the product of kpt_shape."""

    def read(self, file: Path, size: tuple[int, int]) -> Labels:
        """Return the boxes of a label file for a picture of `size` (width, height), and its malformed lines."""
        try:
            return boxes_of(read_label_lines(file), lambda words: self._box(words, size))
        except (OSError, ValueError) as error:
            return unreadable(file, error)

    def _box(self, words: list[str], size: tuple[int, int]) -> AnnotatedBox:
        number = whole_of(words[0])
        if not 0 <= number < len(self.names):
            raise ValueError(f"class {number}, of {len(self.names)} classes")
        x, y, width, height = self._center(words)
        low = min(width, height) < 0 or min(x, y) < -TOLERANCE
        if low or max(x, y, width, height) > 1 + TOLERANCE:
            raise ValueError(f"center {x:g} {y:g} and size {width:g} {height:g} are no parts of a picture, 0 to 1")
        x0 = x - width / 2
        y0 = y - height / 2
        x1 = x + width / 2
        y1 = y + height / 2
        width_px, height_px = size
        return AnnotatedBox(self.names[number], (x0 * width_px, y0 * height_px, x1 * width_px, y1 * height_px))

    def _center(self, words: list[str]) -> tuple[float, float, float, float]:
        """Return the center and size of a box, with or without score or key points, or of the box around a polygon."""
        values = [number_of(word) for word in words[1:]]
        # 5: the score of a model's own labels, as `yolo predict save_conf` writes them
        if len(values) in (4, 5, 4 + self.keypoint_values):
            x, y, width, height = values[:4]
            return x, y, width, height
        if self.keypoint_values or len(values) < 6 or len(values) % 2:
            forms = f"4 or {4 + self.keypoint_values}" if self.keypoint_values else "4, or pairs of a polygon"
            raise ValueError(f"{len(values)} numbers after the class, expected {forms}")
        # 4 values and triples whose third is always 0, 1 or 2 are more likely key points than a polygon
        if len(values) % 3 == 1 and {*values[6::3]} <= VISIBILITIES:
            raise ValueError("corners of a polygon or key points, which data.yaml would tell by kpt_shape")
        xs, ys = values[0::2], values[1::2]
        width = max(xs) - min(xs)
        height = max(ys) - min(ys)
        return min(xs) + width / 2, min(ys) + height / 2, width, height
