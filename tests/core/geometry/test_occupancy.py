"""What stands in a region, and what leaves it empty: areas equal those of masks, and the limits are those that are
written down."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.geometry.frame import Rect
from core.geometry.occupancy import is_empty, occupant, stands_in

SIDE = 40


@st.composite
def rects(draw) -> Rect:
    x0, x1 = sorted(draw(st.lists(st.integers(0, SIDE), min_size=2, max_size=2, unique=True)))
    y0, y1 = sorted(draw(st.lists(st.integers(0, SIDE), min_size=2, max_size=2, unique=True)))
    return x0, y0, x1, y1


def mask(rect: Rect) -> np.ndarray:
    pixels = np.zeros((SIDE, SIDE), bool)
    pixels[rect[1] : rect[3], rect[0] : rect[2]] = True
    return pixels


def by_pixels(region: Rect, boxes: list[Rect], fixed: bool) -> tuple[int | None, bool]:
    """Return the occupant and whether the region is empty, by counting pixels."""
    whole = mask(region)
    common = [int((whole & mask(box)).sum()) for box in boxes]
    fills = [n / whole.sum() for n in common]
    inside = [n / mask(box).sum() for n, box in zip(common, boxes, strict=True)]
    standing = [at for at in range(len(boxes)) if fills[at] >= 0.25 or (fills[at] >= 0.02 and inside[at] >= 0.5)]
    union = [int((whole | mask(box)).sum()) for box in boxes]
    best = min(standing, key=lambda at: (-common[at] / (1 if fixed else union[at]), at), default=None)
    return best, all(part < 0.005 for part in fills)


@given(region=rects(), boxes=st.lists(rects(), max_size=6), fixed=st.booleans())
def test_the_rule_is_that_of_counted_pixels(region, boxes, fixed):
    assert (occupant(region, boxes, fixed=fixed), is_empty(region, boxes)) == by_pixels(region, boxes, fixed)


def test_a_zone_shows_what_fills_it_and_a_box_what_it_was_put_around():
    truck, person = (0, 0, 100, 100), (40, 20, 60, 90)
    around = (38, 15, 62, 95)
    assert occupant(around, [truck, person], fixed=True) == 0
    assert occupant(around, [truck, person], fixed=False) == 1


@pytest.mark.parametrize(
    ("box", "stands"),
    [
        ((0, 0, 100, 25), True),  # a quarter of the region
        ((0, 0, 2000, 25), True),  # the same, a twentieth of the object
        ((-20, 0, 20, 10), True),  # a fiftieth, half of the object
        ((-22, 0, 20, 10), False),  # a fiftieth, less than half of it
        ((0, 0, 19, 10), False),  # less than a fiftieth, all of it
    ],
)
def test_the_limits_belong_to_what_stands(box, stands):
    assert stands_in((0, 0, 100, 100), box) is stands


@given(region=rects(), boxes=st.lists(rects(), max_size=6))
def test_a_region_is_never_both_held_and_empty(region, boxes):
    assert occupant(region, boxes, fixed=True) is None or not is_empty(region, boxes)


@given(region=rects(), box=rects())
def test_a_box_stands_in_itself_and_in_what_it_covers(region, box):
    union = min(region[0], box[0]), min(region[1], box[1]), max(region[2], box[2]), max(region[3], box[3])
    assert stands_in(box, box)
    assert stands_in(box, union)
