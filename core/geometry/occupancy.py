"""The object that a region of a frame shows: one rule for zones in training and for regions in the evaluation.

An object stands in a region when it fills a quarter of it, or when it fills a fiftieth and half of the object is inside
(at 224 px a fiftieth is 32 x 32 px). A fixed zone shows the object that fills most of it; a box, which was put around
an object, shows the one whose own box it agrees with best. A region is empty when no object fills a two-hundredth of it
(16 x 16 px at 224). A region in between, such as the edge of a passing truck, is neither trained on nor scored.
"""

from __future__ import annotations

from collections.abc import Sequence

from core.geometry.frame import Rect

LARGE_FILL = 0.25
"""An object that fills this part of a region stands in it."""
SMALL_FILL, INSIDE = 0.02, 0.5
"""An object that fills this smaller part of a region also stands in it, if at least INSIDE of the object is there."""
TRACE = 0.005
"""A region in which no object fills this part is empty."""


def area(rect: Rect) -> int:
    """Return the number of pixels of a rectangle; 0 when it is empty."""
    return max(rect[2] - rect[0], 0) * max(rect[3] - rect[1], 0)


def intersection(a: Rect, b: Rect) -> int:
    """Return the number of pixels that two rectangles share."""
    left, top = max(a[0], b[0]), max(a[1], b[1])
    right, bottom = min(a[2], b[2]), min(a[3], b[3])
    return area((left, top, right, bottom))


def stands_in(region: Rect, box: Rect) -> bool:
    """Return whether the object in `box` stands in the region."""
    common = intersection(region, box)
    fills = common / area(region)
    return fills >= LARGE_FILL or (fills >= SMALL_FILL and common >= INSIDE * area(box))


def overlap_ratio(a: Rect, b: Rect) -> float:
    """Return the intersection over the union of two rectangles."""
    common = intersection(a, b)
    return common / (area(a) + area(b) - common)


def occupant(region: Rect, boxes: Sequence[Rect], *, fixed: bool) -> int | None:
    """Return which object a region shows, of those that stand in it; the first of equals, None for none.

    fixed: the region is a zone, not a box that was put around an object.
    """
    standing = [index for index, box in enumerate(boxes) if stands_in(region, box)]
    # a zone is large beside its objects, so a ratio would favor small ones that lie inside; a box fits one object
    measure = intersection if fixed else overlap_ratio
    # max takes the first of equals, so the order of the annotations decides, the same on every machine
    return max(standing, key=lambda index: measure(region, boxes[index]), default=None)


def is_empty(region: Rect, boxes: Sequence[Rect]) -> bool:
    """Return whether every object fills less than TRACE of the region."""
    return all(intersection(region, box) < TRACE * area(region) for box in boxes)
