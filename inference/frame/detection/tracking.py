"""Tracks objects over frames: a box gets the number of the track whose predicted box it overlaps most."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.errors import InputError, check_positive
from inference.detectors import Detections

POSITION_GAIN, VELOCITY_GAIN = 0.8, 0.4
"""The shares of a prediction's error that correct the box and its velocity: an alpha-beta filter.

A velocity taken from the last two boxes alone would carry their jitter into every prediction.
"""


@dataclass(frozen=True)
class TrackingConfig:
    """The rule by which a box belongs to a track."""

    min_overlap: float = 0.1
    """Minimum intersection over union of a detection with the box that its track predicts.

    On the synthetic camera (6 seeds x 24 s, sides off by 4%, 15% missed) 0.1 gives 3 of 6,139 boxes to another object
    at 30 Hz, 13 of 2,068 at 10 Hz, 26 of 1,254 at 6 Hz; 0.2 gives 0, 16 and 65.
    """
    forget_ms: float = 500.0
    """A track ends when it was not detected for longer than this; its number is not used again."""

    def __post_init__(self) -> None:
        check_positive(min_overlap=self.min_overlap, forget_ms=self.forget_ms)
        if self.min_overlap > 1:
            raise InputError(f"min_overlap is {self.min_overlap!r}: give a number from 0 to 1")


@dataclass(slots=True)
class Track:
    """One object. box: float64 x0, y0, x1, y1 in pixels at `at_ms`."""

    number: int
    box: NDArray[np.float64]
    at_ms: float
    velocity: NDArray[np.float64] | None = None
    """The velocity of the four sides, in pixels a millisecond; None until the object was detected twice."""

    def predict(self, now_ms: float) -> NDArray[np.float64]:
        """Return the box moved on to a time at its velocity."""
        return self.box if self.velocity is None else self.box + self.velocity * (now_ms - self.at_ms)

    def correct(self, box: NDArray[np.float64], now_ms: float) -> None:
        """Move the box and its velocity toward the box that was detected at a time."""
        elapsed_ms = now_ms - self.at_ms
        if self.velocity is None:  # the second detection: there is no prediction yet whose error could correct it
            self.velocity = (box - self.box) / elapsed_ms
            self.box, self.at_ms = box, now_ms
            return
        predicted = self.predict(now_ms)
        error = box - predicted
        self.box = predicted + POSITION_GAIN * error
        self.velocity = self.velocity + VELOCITY_GAIN * error / elapsed_ms
        self.at_ms = now_ms


class Tracker:
    """Follows the objects of one camera."""

    def __init__(self, config: TrackingConfig | None = None) -> None:
        self._config = config or TrackingConfig()
        self._tracks: list[Track] = []
        self._detected_ms = -np.inf
        self._next = 1

    def update(self, found: Detections, now_ms: float) -> list[Track]:
        """Take the detections of a frame; return the track of each, in their order. now_ms must grow."""
        if now_ms <= self._detected_ms:  # a film that was joined or began again: a velocity needs time that passes
            self.reset()
        self._detected_ms = now_ms
        # before matching: a number that was forgotten must not come back
        self._tracks = [t for t in self._tracks if now_ms - t.at_ms <= self._config.forget_ms]
        boxes_n4 = found.boxes_n4.astype(np.float64)
        # matched by the predicted box: at 6 Hz a passing car's old box may not touch its new one
        predicted_m4 = np.array([t.predict(now_ms) for t in self._tracks]).reshape(-1, 4)
        matched = match_boxes(pairwise_iou(predicted_m4, boxes_n4), self._config.min_overlap)
        tracks = []
        for column, box in enumerate(boxes_n4):
            if column in matched:
                track = self._tracks[matched[column]]
                track.correct(box, now_ms)
            else:
                track = Track(self._next, box, now_ms)
                self._next += 1
            tracks.append(track)
        # those that were missed now stay until forget_ms, and are matched by where they should be
        detected = {track.number for track in tracks}
        self._tracks = tracks + [t for t in self._tracks if t.number not in detected]
        return tracks

    def detected_last(self) -> list[Track]:
        """Return the tracks that the last update detected, to be predicted for a frame without detections."""
        return [t for t in self._tracks if t.at_ms == self._detected_ms]

    def reset(self) -> None:
        """Forget all objects; their numbers are not used again."""
        self._tracks, self._detected_ms = [], -np.inf


def pairwise_iou(a_m4: NDArray[np.float64], b_n4: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the intersection over union of each box of `a` with each of `b`, (m, n); 0 where a box is empty."""
    # every box of a against every box of b, by broadcasting: m and n are at most a few dozen
    low = np.maximum(a_m4[:, None, :2], b_n4[None, :, :2])
    high = np.minimum(a_m4[:, None, 2:], b_n4[None, :, 2:])
    shared_mn = np.clip(high - low, 0, None).prod(2)
    area_m = np.clip(a_m4[:, 2:] - a_m4[:, :2], 0, None).prod(1)
    area_n = np.clip(b_n4[:, 2:] - b_n4[:, :2], 0, None).prod(1)
    union_mn = area_m[:, None] + area_n[None] - shared_mn
    overlap_mn: NDArray[np.float64] = np.zeros_like(shared_mn)
    np.divide(shared_mn, union_mn, out=overlap_mn, where=union_mn > 0)
    return overlap_mn


def match_boxes(overlap_mn: NDArray[np.float64], least: float) -> dict[int, int]:
    """Return {column: row} of the pairs with the largest overlaps, each row and column once, none under `least`."""
    matched: dict[int, int] = {}
    taken: set[int] = set()
    # greedy, from the largest overlap down: an optimal assignment could split a clear pair to save two doubtful ones;
    # stable, so that the same boxes give the same tracks on every platform
    for flat in np.argsort(-overlap_mn, axis=None, kind="stable").tolist():
        row, column = divmod(flat, overlap_mn.shape[1])
        if overlap_mn[row, column] < least:
            break
        if row not in taken and column not in matched:
            matched[column] = row
            taken.add(row)
    return matched
