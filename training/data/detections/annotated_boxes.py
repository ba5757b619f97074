"""Boxes of a detection data set, and the pixels that they cover."""

from __future__ import annotations

from dataclasses import dataclass

from core.geometry.frame import Rect

GRID = 32
"""Edges are first rounded to one part in GRID of a pixel, because YOLO's decimals turn 83.5 into 83.4998."""
Xyxy = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels of the image, x1 and y1 exclusive, not rounded."""


@dataclass(frozen=True, slots=True)
class AnnotatedBox:
    """One annotated object."""

    label: str
    xyxy: Xyxy
    truncated: float = 0.0
    """Part of the object outside the image, 0..1."""
    occluded: int = 0
    """0 visible, 1 partly, 2 largely hidden, 3 unknown, as KITTI counts."""
    skip: str | None = None
    """The source's own reason not to use the box: crowd, difficult, don't care."""


@dataclass(frozen=True, slots=True)
class SkippedAnnotation:
    """An annotation that is left out before it is a box."""

    reason: str
    where: str
    """File, place in it, and what stands there."""


@dataclass(frozen=True, slots=True)
class AnnotatedPicture:
    """One image of a detection data set and its boxes."""

    source: str
    width: int
    height: int
    split: str | None
    boxes: tuple[AnnotatedBox, ...] = ()
    skipped: tuple[SkippedAnnotation, ...] = ()
    """Annotations of it that are no box."""
    labeled: bool = True
    """True when the picture has an annotation; one without a box says that there is no object."""


def snap(xyxy: Xyxy, width: int, height: int) -> Rect:
    """Return a box in whole pixels inside the image; empty (x1 <= x0 or y1 <= y0) when it is outside."""
    x0, y0, x1, y1 = (round(value * GRID) / GRID for value in xyxy)  # exact: GRID is a power of two
    # halves are rounded as VOC's writers do (1-based corners, to even), so that a box is the same in every format
    left, top = round(x0 + 1) - 1, round(y0 + 1) - 1
    right, bottom = round(x1), round(y1)
    return max(left, 0), max(top, 0), min(right, width), min(bottom, height)


def overlaps(a: Rect, b: Rect) -> bool:
    """Tell whether two rectangles share a pixel."""
    across = a[0] < b[2] and b[0] < a[2]
    return across and a[1] < b[3] and b[1] < a[3]
