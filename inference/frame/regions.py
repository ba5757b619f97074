"""The rectangles of a frame that are classified: fixed, named zones, or what another region source finds."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from core.errors import InputError
from core.geometry.frame import MAX_REGIONS, Bytes, Frame, Rect, Relative
from core.geometry.preprocess import rect_of

log = logging.getLogger(__name__)
MIN_ZONE_SIDE_PX = 12
"""No class is named of a zone with a shorter side: by default packing leaves out smaller crops, too."""
WHOLE_ZONE = "frame"
"""The name of the zone that covers the whole frame."""


@dataclass(frozen=True, slots=True)
class Regions:
    """The regions of one frame: names, rectangles in pixels, and the true class of those names that have one."""

    names: Sequence[str]
    rects: Sequence[Rect]
    truth: Mapping[str, str | None]
    outside: Collection[str] = ()
    """The names of the boxes that do not touch the frame: there is nothing of them to classify."""
    too_small: Collection[str] = ()
    """The names of the regions that have too few pixels for their class to be told."""
    failure: str = ""
    """The reason why the regions of this frame could not be found; empty where they could."""


class RegionSource(ABC):
    """Gives the regions of each frame: fixed zones, boxes from a file, or tracked boxes of a detector."""

    names: Sequence[str]
    """The names of its zones, or one word for its boxes; for the log and the summary."""
    max_regions: int
    """The most regions of one frame: the batch size that the backend is opened with."""
    fixed: bool
    """The regions are there whether or not an object is in them, so a model needs a background class."""
    persistent: bool
    """A name means the same zone or the same tracked object in every frame, so its probabilities may be smoothed."""
    shares_cores: bool = False
    """Finding them takes the cores on which the classifier runs."""
    every: int = 1
    """The regions are found anew in every n-th frame, which takes longer than the frames in between."""

    @abstractmethod
    def regions_of(self, frame: Frame, picture_bgr: Bytes) -> Regions:
        """Return the regions of a frame. picture_bgr: the frame upright, uint8 (H, W, 3), in whose pixels they are."""

    def close(self) -> None:
        """Free what it opened."""
        return

    def reset(self) -> None:
        """Forget earlier frames, because of a gap. Does nothing where no frame depends on another."""
        return


class Zones(RegionSource):
    """Fixed zones, in pixels of whatever size the frames have: computed once per size."""

    fixed = persistent = True

    def __init__(self, zones: Mapping[str, Relative]) -> None:
        if not 1 <= len(zones) <= MAX_REGIONS:
            raise InputError(f"there are {len(zones)} zones: give 1 to {MAX_REGIONS}")
        self.names = tuple(zones)
        self.max_regions = len(zones)
        self._relative = tuple(zones.values())
        self._size = (0, 0)  # no frame has this size, so the first one computes the rectangles
        self._rects: list[Rect] = []
        self._too_small: frozenset[str] = frozenset()

    def regions_of(self, frame: Frame, picture_bgr: Bytes) -> Regions:
        """Return the zones in a picture of this size."""
        rects = self.rects(picture_bgr.shape[1], picture_bgr.shape[0])
        return Regions(self.names, rects, frame.ground_truth, too_small=self._too_small)

    def rects(self, width: int, height: int) -> list[Rect]:
        """Return the zones' rectangles in a picture of this size; the caller must not change the list."""
        if (width, height) != self._size:  # a camera that is opened again may come back with another size
            self._size = (width, height)
            self._rects = [rect_of(zone, width, height) for zone in self._relative]
            self._too_small = self._find_too_small()
        return self._rects

    def _find_too_small(self) -> frozenset[str]:
        found = set()
        for name, (x0, y0, x1, y1) in zip(self.names, self._rects, strict=True):
            if min(x1 - x0, y1 - y0) < MIN_ZONE_SIDE_PX:
                found.add(name)
                size, picture = f"{x1 - x0}x{y1 - y0}", f"{self._size[0]}x{self._size[1]}"
                log.warning(
                    f"the zone {name} has {size} of the picture's {picture} pixels: no class is named of a zone with a "
                    f"side under {MIN_ZONE_SIDE_PX} pixels, make it larger in camera.json"
                )
        return frozenset(found)


def whole_frame() -> Zones:
    """Return the one zone that covers the frame."""
    return Zones({WHOLE_ZONE: (0.0, 0.0, 1.0, 1.0)})
