"""Whether a picture can be looked at at all: black, saturated, covered or blurred; and whether it is the same again.

A grid of small patches at full resolution stands for the frame (27,648 of 921,600 pixels at 1280x720), so that a look
costs about 0.1 ms; its buffers are reused. Contrast and sharpness are judged on means of 4x4 pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from inference.preprocess import Bytes, Rect

ROWS, COLUMNS, PATCH_PX = 6, 8, 24
COARSE_PX = 4
"""Contrast is judged on means of 4x4 pixels: sensor noise is a quarter there, what the lens shows is not."""
BGR = 3


@dataclass(frozen=True)
class Limits:
    """Grey levels (0..255) and parts (0..1). Their false-alarm rate on real frames is measured in the tests."""

    black: float = 10.0
    """A patch whose mean is under this is black."""
    saturated: float = 250.0
    """A patch whose mean is over this is saturated."""
    flat: float = 1.6
    """A patch whose coarse standard deviation is under this shows nothing."""
    blurred: float = 0.5
    """A frame whose `sharpness` is under this is blurred: real frames have over 1, a blur of 1% of the width 0.4."""
    part: float = 0.9
    """So many of a zone's patches must be bad."""


class Sight:
    """Looks at one frame after the other."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.same = False
        """Whether the last two frames were identical in every patch: a sensor's noise never repeats itself."""
        self.sharpness = 0.0
        """Of the last frame: its richest patches' second derivative over their contrast, noise taken off."""
        self._size = (0, 0)
        self._members: dict[Rect, list[int]] = {}
        self._bad: dict[str, list[bool]] = {}
        """What is wrong with which patch of the last frame: plain lists, since to count in them takes no array."""
        rows, columns = ROWS * PATCH_PX, COLUMNS * PATCH_PX
        self._patches = np.zeros((rows, columns, BGR), np.uint8)
        self._previous = np.zeros_like(self._patches)
        self._grey = np.zeros((rows, columns), np.uint8)
        self._coarse = np.zeros((rows // COARSE_PX, columns // COARSE_PX), np.uint8)
        self._coarse32 = np.zeros(self._coarse.shape, np.float32)
        self._squares32 = np.zeros_like(self._coarse32)
        self._detail32 = np.zeros_like(self._coarse32)
        edge = PATCH_PX // COARSE_PX
        # each patch without its border, whose derivative sees the neighbouring patch
        self._inner = self._detail32.reshape(ROWS, edge, COLUMNS, edge)[:, 1:-1, :, 1:-1]
        self.mean_rc = np.zeros((ROWS, COLUMNS), np.float32)
        self.contrast_rc = np.zeros((ROWS, COLUMNS), np.float32)
        """The standard deviation of the coarse pixels of each patch."""
        self._detail_rc = np.zeros((ROWS, COLUMNS), np.float32)
        self._ranked = np.zeros(ROWS * COLUMNS, np.float32)
        self._squared_rc = np.zeros((ROWS, COLUMNS), np.float32)
        self._mask_rc = np.zeros((ROWS, COLUMNS), np.bool_)
        # numbers as arrays: numpy makes one of each plain number at each call
        self._zero, self._share = np.array(0, np.float32), np.array(1 / self._inner[0, :, 0].size, np.float32)
        self._tests = (
            ("black", np.less, self.mean_rc, np.array(self.limits.black, np.float32)),
            ("saturated", np.greater, self.mean_rc, np.array(self.limits.saturated, np.float32)),
            ("covered", np.less, self.contrast_rc, np.array(self.limits.flat, np.float32)),
        )

    def look(self, frame_bgr: Bytes) -> None:
        """Take the statistics of a frame, uint8 (H, W, 3) of at least one pixel."""
        if frame_bgr.shape[:2] != self._size:
            self._size, self._members = frame_bgr.shape[:2], {}
        self._patches, self._previous = self._previous, self._patches
        self._take_patches(frame_bgr)
        self.same = cv2.norm(self._patches, self._previous, cv2.NORM_INF) == 0
        cv2.cvtColor(self._patches, cv2.COLOR_BGR2GRAY, dst=self._grey)
        self._measure()

    def _take_patches(self, frame_bgr: Bytes) -> None:
        height, width = self._size
        if height < ROWS * PATCH_PX or width < COLUMNS * PATCH_PX:
            size = (COLUMNS * PATCH_PX, ROWS * PATCH_PX)
            cv2.resize(frame_bgr, size, dst=self._patches, interpolation=cv2.INTER_LINEAR)
            return
        step_y, step_x = height // ROWS, width // COLUMNS
        y, x = (step_y - PATCH_PX) // 2, (step_x - PATCH_PX) // 2
        # to split an axis makes a view, never a copy
        rows = frame_bgr[: ROWS * step_y].reshape(ROWS, step_y, width, BGR)[:, y : y + PATCH_PX, : COLUMNS * step_x]
        view = rows.reshape(ROWS, PATCH_PX, COLUMNS, step_x, BGR)[:, :, :, x : x + PATCH_PX]
        np.copyto(self._patches.reshape(ROWS, PATCH_PX, COLUMNS, PATCH_PX, BGR), view)

    def _measure(self) -> None:
        size, area = (COLUMNS, ROWS), cv2.INTER_AREA
        cv2.resize(self._grey, self._coarse.shape[::-1], dst=self._coarse, interpolation=area)
        np.copyto(self._coarse32, self._coarse)
        cv2.resize(self._coarse32, size, dst=self.mean_rc, interpolation=area)
        cv2.multiply(self._coarse32, self._coarse32, dst=self._squares32)
        cv2.resize(self._squares32, size, dst=self.contrast_rc, interpolation=area)
        cv2.Laplacian(self._coarse32, cv2.CV_32F, dst=self._detail32)
        np.square(self._detail32, out=self._detail32)
        np.add.reduce(self._inner, axis=(1, 3), out=self._detail_rc)
        np.multiply(self._detail_rc, self._share, out=self._detail_rc)
        np.square(self.mean_rc, out=self._squared_rc)
        np.subtract(self.contrast_rc, self._squared_rc, out=self.contrast_rc)
        np.maximum(self.contrast_rc, self._zero, out=self.contrast_rc)
        emptiest, richest = self._tenths(self._detail_rc)
        contrast = self._tenths(self.contrast_rc)[1]
        self.sharpness = math.sqrt(max(richest - emptiest, 0.0) / max(contrast, 1e-6))
        np.sqrt(self.contrast_rc, out=self.contrast_rc)
        for why, compare, values_rc, limit in self._tests:
            compare(values_rc, limit, out=self._mask_rc)
            self._bad[why] = self._mask_rc.ravel().tolist()

    def _tenths(self, values_rc: NDArray[np.float32]) -> tuple[float, float]:
        """Return the first and the last tenth of the values of all patches."""
        np.copyto(self._ranked, values_rc.ravel())
        self._ranked.sort()
        tenth = len(self._ranked) // 10
        return float(self._ranked[tenth]), float(self._ranked[-1 - tenth])

    def why_blind(self, rect: Rect) -> str | None:
        """Return why nothing can be seen in a rectangle of the last frame, or None."""
        members = self._members_of(rect)
        for why, bad in self._bad.items():
            if sum([bad[i] for i in members]) < self.limits.part * len(members):
                continue
            # covered is the whole frame: one zone alone may be flat, of sky or of new asphalt
            if why != "covered" or sum(bad) >= self.limits.part * len(bad):
                return why
        return "blurred" if self.sharpness < self.limits.blurred else None

    def _members_of(self, rect: Rect) -> list[int]:
        """Return the patches whose centre lies in the rectangle, else the one nearest to its own centre."""
        if (members := self._members.get(rect)) is None:
            height, width = self._size
            ys = (np.arange(ROWS) + 0.5) * (height / ROWS)
            xs = (np.arange(COLUMNS) + 0.5) * (width / COLUMNS)
            x0, y0, x1, y1 = rect
            inside = ((ys >= y0) & (ys < y1))[:, None] & ((xs >= x0) & (xs < x1))[None, :]
            distance = np.abs(ys - (y0 + y1) / 2)[:, None] * width + np.abs(xs - (x0 + x1) / 2)[None, :] * height
            members = np.flatnonzero(inside).tolist() or [int(distance.argmin())]
            if len(self._members) >= 64:  # boxes of a detector come and go
                self._members.clear()
            self._members[rect] = members
        return members
