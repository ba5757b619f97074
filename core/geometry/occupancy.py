"""Which object a region of a frame shows: one rule for zones that are learned and for regions that are scored.

An object stands in a region when it fills a quarter of it, or when it fills a fiftieth and half of the object is inside
(at 224 px a fiftieth is 32 x 32 px). The region shows the object that fills most of it. A region is empty when no
object fills a two-hundredth of it (16 x 16 px at 224). What lies between, such as the edge of a passing truck, is
neither: it is not learned and not scored.
"""

from __future__ import annotations

from collections.abc import Sequence

from core.geometry.frame import Rect

COVERING = 0.25
FILLING, INSIDE = 0.02, 0.5
TRACE = 0.005


def area(rect: Rect) -> int:
    """Return the number of pixels of a rectangle; 0 when it is empty."""
    return max(rect[2] - rect[0], 0) * max(rect[3] - rect[1], 0)


def shared(a: Rect, b: Rect) -> int:
    """Return the number of pixels that two rectangles share."""
    return area((max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])))


def stands_in(region: Rect, box: Rect) -> bool:
    """Say whether the object in `box` stands in the region."""
    common = shared(region, box)
    fills = common / area(region)
    return fills >= COVERING or (fills >= FILLING and common >= INSIDE * area(box))


def occupant(region: Rect, boxes: Sequence[Rect]) -> int | None:
    """Return which of the objects that stand in the region fills most of it, the first of equals; None for none."""
    standing = [at for at, box in enumerate(boxes) if stands_in(region, box)]
    return max(standing, key=lambda at: shared(region, boxes[at]), default=None)


def is_empty(region: Rect, boxes: Sequence[Rect]) -> bool:
    """Say whether no object fills more than a trace of the region."""
    return all(shared(region, box) < TRACE * area(region) for box in boxes)
