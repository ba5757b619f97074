"""Finds regions that show nothing (black, saturated, covered or blurred) and pictures that are frozen.

A grid of small patches at full resolution stands for the frame (27,648 of 921,600 pixels at 1280x720), so that the
analysis takes about 0.1 ms, 0.2 after a network's call; its buffers are reused.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from core.geometry.frame import Bytes, Rect
from inference.frame.regions import Regions

ROWS, COLUMNS, PATCH_PX = 6, 8, 24
PATCHES = ROWS * COLUMNS
COARSE_PX = 4
"""Contrast and sharpness are measured on means of 4x4 pixels, which have a quarter of the sensor's noise."""
BGR = 3


@dataclass(frozen=True)
class QualityThresholds:
    """Gray levels (0..255) and fractions (0..1). Their false-alarm rate on real frames is measured in the tests."""

    black: float = 10.0
    """A patch whose mean is under this is black."""
    saturated: float = 250.0
    """A patch whose mean is over this is saturated."""
    flat: float = 1.6
    """A patch whose coarse standard deviation is under this is flat; a frame of flat patches is covered."""
    blurred: float = 0.5
    """A frame whose sharpness is under this is blurred: real frames have over 1, a blur of 1% of the width 0.4."""
    fraction: float = 0.9
    """The fraction of a region's patches that must be bad for the region to be blind."""


@dataclass(frozen=True, slots=True)
class QualityReport:
    """The quality of one frame."""

    blind_n: Sequence[str | None]
    """For each region, the reason that nothing can be seen in it; None where it can be classified."""
    frozen: bool
    """The picture has been the same to the bit for too long: a sensor's noise never repeats itself."""
    blind: str | None = None
    """The reason that nothing can be seen in the whole frame; set only for a frame without regions."""


@dataclass(frozen=True, slots=True)
class PatchFindings:
    """The bad patches of one frame, and its sharpness."""

    bad: dict[str, set[int]]
    """The bad patches, by what is wrong with them."""
    sharpness: float
    """The square root of (squared second derivative, less noise) / variance, both at the ninth decile of patches."""


class FrameQuality:
    """Analyzes the frames of one camera in order: whether a picture is frozen depends on the one before."""

    def __init__(self, *, frozen_s: float | None = None) -> None:
        """frozen_s: how long a picture must repeat to be frozen, three frames at least; None: it never is."""
        self._thresholds = QualityThresholds()
        self._frozen_s = frozen_s
        self._repeats = self._repeated_since_ns = 0
        self._size = (0, 0)
        self._members: dict[Rect, frozenset[int]] = {}
        rows = ROWS * PATCH_PX
        columns = COLUMNS * PATCH_PX
        edge = PATCH_PX // COARSE_PX
        self._patches = np.zeros((rows, columns, BGR), np.uint8)
        self._previous = np.zeros_like(self._patches)
        self._gray = np.zeros((rows, columns), np.uint8)
        self._coarse = np.zeros((rows // COARSE_PX, columns // COARSE_PX), np.uint8)
        # detail, coarse, detail squared, coarse squared, one below the other in one array: the slices overlap, so that
        # one call squares the first two planes and one call takes the means of the last three
        high, wide = self._coarse.shape
        planes = np.zeros((4 * high, wide), np.float32)
        self._detail32 = planes[:high]
        self._coarse32 = planes[high : 2 * high]
        self._plain = planes[: 2 * high]
        self._squares = planes[2 * high :]
        self._measured = planes[high:]
        self._means = np.zeros((3, PATCHES), np.float32)
        """Three means of each patch: its coarse pixels, their squared second derivative, their squares."""
        self._means_rc = self._means.reshape(3 * ROWS, COLUMNS)
        # leaves out the border of each patch, whose derivative sees the next patch; the weight makes up for it in the
        # mean over the patch
        inner = np.zeros((edge, edge), np.float32)
        inner[1:-1, 1:-1] = edge / (edge - 2)
        self._inner = np.tile(inner, (ROWS, COLUMNS))

    def analyze(self, frame_bgr: Bytes, regions: Regions, media_ns: int) -> QualityReport:
        """Return the quality of a frame, uint8 (H, W, 3) of at least one pixel. media_ns: its place in time."""
        findings = self._inspect(frame_bgr)
        frozen = self._is_frozen(media_ns)
        outside = regions.outside
        blind_n = [
            "outside the frame" if name in outside else self._blind_reason(rect, findings)
            for name, rect in zip(regions.names, regions.rects, strict=True)
        ]
        blind = None if blind_n else self._blind_reason((0, 0, frame_bgr.shape[1], frame_bgr.shape[0]), findings)
        return QualityReport(blind_n, frozen, blind)

    def _inspect(self, frame_bgr: Bytes) -> PatchFindings:
        if frame_bgr.shape[:2] != self._size:
            self._size = frame_bgr.shape[:2]
            self._members = {}
        # the buffers change roles, so that the last picture is kept without a copy
        self._patches, self._previous = self._previous, self._patches
        self._take_patches(frame_bgr)
        mean_p, detail_p, square_p = self._measure()
        return self._find_bad(mean_p, detail_p, square_p)

    def _is_frozen(self, media_ns: int) -> bool:
        if self._frozen_s is None:
            return False
        # the first row alone tells most pictures apart, in a third of the time
        same_start = self._patches[0].data == self._previous[0].data
        if not same_start or cv2.norm(self._patches, self._previous, cv2.NORM_INF) > 0:
            self._repeats = 0
            self._repeated_since_ns = media_ns
            return False
        # two repeats as well as a time: at a low frame rate one repeated picture already takes longer than frozen_s
        self._repeats += 1
        return self._repeats >= 2 and media_ns - self._repeated_since_ns >= self._frozen_s * 1e9

    def _take_patches(self, frame_bgr: Bytes) -> None:
        height, width = self._size
        if height < ROWS * PATCH_PX or width < COLUMNS * PATCH_PX:
            size = (COLUMNS * PATCH_PX, ROWS * PATCH_PX)
            cv2.resize(frame_bgr, size, dst=self._patches, interpolation=cv2.INTER_LINEAR)
            return
        # one patch from the middle of each cell of the grid
        step_y, step_x = height // ROWS, width // COLUMNS
        y, x = (step_y - PATCH_PX) // 2, (step_x - PATCH_PX) // 2
        # splitting an axis makes a view, never a copy
        tiles = frame_bgr[: ROWS * step_y, : COLUMNS * step_x].reshape(ROWS, step_y, COLUMNS, step_x, BGR)
        view = tiles[:, y : y + PATCH_PX, :, x : x + PATCH_PX]
        np.copyto(self._patches.reshape(view.shape), view)

    def _measure(self) -> list[list[float]]:
        """Return `_means` as plain floats, by few calls: each takes 4 to 30 us after a network emptied the caches."""
        # the patches lie edge to edge in one small picture: OpenCV filters all 48 in one call
        cv2.cvtColor(self._patches, cv2.COLOR_BGR2GRAY, dst=self._gray)
        cv2.resize(self._gray, self._coarse.shape[::-1], dst=self._coarse, interpolation=cv2.INTER_AREA)
        np.copyto(self._coarse32, self._coarse)
        cv2.Laplacian(self._coarse32, cv2.CV_32F, dst=self._detail32)
        cv2.multiply(self._detail32, self._inner, dst=self._detail32)
        # detail and coarse are squared at once; the means of coarse, detail^2 and coarse^2 follow in one resize
        cv2.multiply(self._plain, self._plain, dst=self._squares)
        cv2.resize(self._measured, self._means_rc.shape[::-1], dst=self._means_rc, interpolation=cv2.INTER_AREA)
        means: list[list[float]] = self._means.tolist()
        return means

    def _find_bad(self, mean_p: list[float], detail_p: list[float], square_p: list[float]) -> PatchFindings:
        """Return which patches are bad, and the sharpness. Plain floats are faster than arrays for 48 patches."""
        limits = self._thresholds
        flat, black, saturated = limits.flat**2, limits.black, limits.saturated
        bad: dict[str, set[int]] = {"black": set(), "saturated": set(), "covered": set()}
        variance_p = []
        for i, mean in enumerate(mean_p):
            variance = square_p[i] - mean * mean  # at 255^2 a rounding of float32 is 0.004, flat**2 is 2.6
            variance_p.append(variance)
            if mean < black:
                bad["black"].add(i)
            if mean > saturated:
                bad["saturated"].add(i)
            if variance < flat:
                bad["covered"].add(i)
        # deciles, each list by itself: from here on it does not matter which patch a value came from. The ninth is the
        # richest texture, which a blur takes away; the first is sensor noise, which every patch has and a blur leaves
        detail_p.sort()
        variance_p.sort()
        tenth = PATCHES // 10
        noise = detail_p[tenth]
        detail = detail_p[-1 - tenth]
        contrast = variance_p[-1 - tenth]
        # over the contrast: a dim picture has less of both, and is no blurrier for it
        return PatchFindings(bad, math.sqrt(max(detail - noise, 0.0) / max(contrast, 1e-6)))

    def _blind_reason(self, rect: Rect, findings: PatchFindings) -> str | None:
        members = self._members_of(rect)
        fraction = self._thresholds.fraction
        for reason, bad in findings.bad.items():
            if len(bad & members) < fraction * len(members):
                continue
            # only a whole frame is covered: one region may show nothing but sky or new asphalt
            if reason != "covered" or len(bad) >= fraction * PATCHES:
                return reason
        return "blurred" if findings.sharpness < self._thresholds.blurred else None

    def _members_of(self, rect: Rect) -> frozenset[int]:
        """Return the patches whose center lies in the rectangle, else the one nearest to its own center."""
        if (members := self._members.get(rect)) is None:
            height, width = self._size
            ys = (np.arange(ROWS) + 0.5) * (height / ROWS)
            xs = (np.arange(COLUMNS) + 0.5) * (width / COLUMNS)
            x0, y0, x1, y1 = rect
            # a patch belongs to the regions that hold its center; a region that holds none gets the nearest
            rows = (ys >= y0) & (ys < y1)
            columns = (xs >= x0) & (xs < x1)
            inside = rows[:, None] & columns[None, :]
            # weighted by the other side, so that both axes count as fractions of the frame
            distance_y = np.abs(ys - (y0 + y1) / 2) * width
            distance_x = np.abs(xs - (x0 + x1) / 2) * height
            distance = distance_y[:, None] + distance_x[None, :]
            members = frozenset(np.flatnonzero(inside).tolist() or [int(distance.argmin())])
            if len(self._members) >= 64:  # a detector gives new rectangles all the time
                self._members.clear()
            self._members[rect] = members
        return members
