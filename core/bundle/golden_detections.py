"""Golden frames of a detector: whole frames and the boxes it must find in them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.bundle.golden_file import GoldenCheck, check_frames, read_arrays, reading
from core.errors import InputError
from core.files import replacing
from core.geometry.frame import Bytes

NAME = "golden_detector.npz"
SIDE_PX = 2.0
"""Largest distance allowed between the sides of an expected and a found box, in pixels of the frame."""
SCORE_MARGIN = 0.05
"""A box whose score is nearer to the threshold than this may be missing elsewhere: runtimes round differently."""


def score_margin(threshold: float) -> float:
    """Return SCORE_MARGIN, or less where the threshold leaves less room: twice the margin over it is under 1."""
    return min(SCORE_MARGIN, (1 - threshold) / 3)


@dataclass(frozen=True)
class GoldenDetections:
    """The stored frames and boxes. Row n of boxes_n6, float32, is x0, y0, x1, y1, score, class, in frame_of_n[n]."""

    frames: tuple[Bytes, ...]
    boxes_n6: NDArray[np.float32]
    frame_of_n: NDArray[np.int32]

    def __post_init__(self) -> None:
        n = len(self.frame_of_n)
        if self.boxes_n6.shape != (n, 6) or not n or not np.isfinite(self.boxes_n6).all():
            raise InputError(f"{NAME}: boxes_n6 is {self.boxes_n6.shape}, there are {n} boxes")
        if self.frame_of_n.min() < 0 or self.frame_of_n.max() >= len(self.frames):
            raise InputError(f"{NAME}: frame_of_n names a frame that is not there")
        check_frames(NAME, self.frames)

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all; the same content gives the same bytes."""
        frames = {f"frame_{i}": frame for i, frame in enumerate(self.frames)}
        with replacing(path) as temporary, temporary.open("wb") as stream:
            np.savez_compressed(stream, boxes_n6=self.boxes_n6, frame_of_n=self.frame_of_n, **frames)  # type: ignore[arg-type]


def load_golden_detections(path: Path) -> GoldenDetections:
    """Read the file. Raises InputError when it is missing or damaged, or claims more than LIMIT_BYTES."""
    with reading(path):
        arrays = read_arrays(path)
        # all arrays but boxes_n6 and frame_of_n are frames
        frames = tuple(arrays.pop(f"frame_{i}") for i in range(len(arrays) - 2))
        return GoldenDetections(frames=frames, **arrays)


def compare_detections(
    backend: str, found: list[NDArray[np.float32]], golden: GoldenDetections, threshold: float
) -> tuple[GoldenCheck, GoldenCheck]:
    """Return two checks: boxes without one of the same class on the other side, and the largest distance of a side.

    found: for each frame float32 (n, 6), as in boxes_n6. threshold: that of the detector.
    """
    unmatched, distance_px = 0, 0.0
    for number, found_n6 in enumerate(found):
        expected_n6 = golden.boxes_n6[golden.frame_of_n == number]
        # in both directions: a box that is missing, and a box that should not be there
        for ours_n6, others_n6 in ((expected_n6, found_n6), (found_n6, expected_n6)):
            for row in ours_n6[ours_n6[:, 4] >= threshold + score_margin(threshold)]:
                same = others_n6[others_n6[:, 5] == row[5]]
                # the nearest box of the class, by its worst side
                distances_px = np.abs(same[:, :4] - row[:4]).max(1)
                apart_px = distances_px.min() if len(same) else np.inf
                unmatched += bool(apart_px > SIDE_PX)
                distance_px = max(distance_px, float(apart_px) if apart_px <= SIDE_PX else 0.0)
    return (
        GoldenCheck(backend, "detector", "boxes without a match", unmatched, 0),
        GoldenCheck(backend, "detector", "largest distance of a side, px", distance_px, SIDE_PX),
    )
