"""Examples of test rows: the surest wrong answers of the chosen model, and answers that an exported file changes."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from benchmarks.results.candidate import Accuracy
from core.bundle.parity_file import ParityResult
from core.data.pack import Pack
from core.geometry.frame import Bytes

WORST = 24
FLIPPED = 12
SIDE_PX = 112
"""The largest side of an image, so that the report stays under 5 MB."""


@dataclass(frozen=True)
class Example:
    """A test row as the report shows it."""

    row: int
    source: str
    label: str
    answer: str
    """The wrong answer, or the files that change the answer."""
    picture: str
    """A data URI."""
    probability: float = 0.0


def list_worst_rows(accuracy: Accuracy, pack: Pack) -> list[Example]:
    """Return the wrongly answered test rows with the highest probability, the highest first."""
    rows = pack.rows("test")
    wrong = np.flatnonzero(accuracy.predicted_n != pack.labels_n[rows])
    by_probability = np.argsort(-accuracy.top_n[wrong], kind="stable")
    examples = []
    for i in wrong[by_probability][:WORST]:
        answer = pack.classes[accuracy.predicted_n[i]]
        examples.append(_show(int(rows[i]), pack, answer, float(accuracy.top_n[i])))
    return examples


def list_flipped(reports: Mapping[str, Sequence[ParityResult]], pack: Pack) -> list[Example]:
    """Return test rows that exported files answer otherwise than torch, those with the most such files first."""
    # the pack in an archive for a device holds the test rows alone, and the numbers that they had before
    taken = pack.metadata.get("taken_rows") or range(len(pack.labels_n))
    index_of = {int(row): index for index, row in enumerate(taken)}
    files_of: dict[int, list[str]] = {}
    for arch, parities in reports.items():
        for parity in parities:
            if parity.split != "test":
                continue
            for row in parity.flipped:
                if row in index_of:
                    file = f"{arch} {parity.name}{_describe_flip(parity, row, pack)}"
                    files_of.setdefault(index_of[row], []).append(file)
    ordered = sorted(files_of, key=lambda row: (-len(files_of[row]), row))[:FLIPPED]
    return [_show(row, pack, ", ".join(files_of[row])) for row in ordered]


def _describe_flip(parity: ParityResult, row: int, pack: Pack) -> str:
    """Return both answers, " (car 52% -> bus 55%)"; an empty text where an older export kept none."""
    flips: Any = parity.flips
    flip = next((flip for flip in flips if flip["row"] == row), None)
    if flip is None:
        return ""
    sides = [f"{pack.classes[side['class']]} {side['probability'] or 0:.0%}" for side in (flip["torch"], flip["file"])]
    return f" ({' -> '.join(sides)})"


def _show(row: int, pack: Pack, answer: str, probability: float = 0.0) -> Example:
    label = pack.classes[pack.labels_n[row]]
    picture = as_data_uri(pack.images_nhwc[row])
    return Example(row, str(pack.sources_n[row]), label, answer, picture, probability)


def as_data_uri(image: Bytes) -> str:
    """Return an RGB image as a PNG data URI. image: uint8 (S, S, 3)."""
    scale = min(1.0, SIDE_PX / max(image.shape[:2]))
    if scale < 1:  # a small row is shown pixel by pixel, as the network gets it
        small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        image = np.asarray(small, np.uint8)
    encoded = cv2.imencode(".png", np.ascontiguousarray(image[..., ::-1]))[1]  # OpenCV writes BGR
    return "data:image/png;base64," + base64.b64encode(encoded.tobytes()).decode("ascii")
