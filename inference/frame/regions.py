"""Which rectangles of a frame are classified: fixed, named zones."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from core.errors import InputError
from core.geometry.frame import Rect, Relative
from core.geometry.preprocess import clip_rect

if TYPE_CHECKING:
    from core.geometry.frame import Frame

WHOLE = "frame"
"""The name of the one zone there is when none is given: the whole frame."""
LIMIT = 32
"""More regions than this in one frame are refused: each costs a row of every batch."""


@dataclass(frozen=True, slots=True)
class Regions:
    """What of one frame is classified: names, rectangles in pixels, and the truth of those names that have one."""

    names: Sequence[str]
    rects: Sequence[Rect]
    truth: Mapping[str, str | None]
    outside: Collection[str] = ()
    """The names of the boxes that do not touch the frame: there is nothing of them to classify."""


class Zones:
    """Fixed zones, in pixels of whatever size the frames have: computed once per size."""

    def __init__(self, zones: Mapping[str, Relative]) -> None:
        if not 1 <= len(zones) <= LIMIT:
            raise InputError(f"there are {len(zones)} zones: give 1 to {LIMIT}")
        self.names = tuple(zones)
        self.most = len(zones)
        self._relative = tuple(zones.values())
        self._size = (0, 0)
        self._rects: list[Rect] = []

    def at(self, frame: Frame, width: int, height: int) -> Regions:
        """Return the regions of a frame of this size."""
        return Regions(self.names, self.rects(width, height), frame.truth)

    def rects(self, width: int, height: int) -> list[Rect]:
        """Return the zones' rectangles in a frame of this size; the caller must not change the list."""
        if (width, height) != self._size:
            self._size = (width, height)
            self._rects = [
                clip_rect((round(x0 * width), round(y0 * height), round(x1 * width), round(y1 * height)), width, height)
                for x0, y0, x1, y1 in self._relative
            ]
        return self._rects


def whole_frame() -> Zones:
    """Return the one zone that covers the frame."""
    return Zones({WHOLE: (0.0, 0.0, 1.0, 1.0)})
