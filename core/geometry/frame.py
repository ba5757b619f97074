"""A frame of a camera, and the rectangles on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.errors import InputError


class AgeBasis(str, Enum):
    """The moment from which the age of a frame counts."""

    CAPTURE = "capture"
    """The moment at which the driver took the picture."""
    ARRIVAL = "arrival"
    """The moment at which this process received it; the delay of camera, network and decoder is not counted."""

    def __str__(self) -> str:
        return self.value


Bytes = NDArray[np.uint8]
"""The pixels of a picture, or of several: uint8, with the layout in the variable's name (image_bgr, images_nhwc)."""


Rect = tuple[int, int, int, int]
"""x0, y0, x1, y1 in pixels of the frame; x1 and y1 are exclusive."""


Relative = tuple[float, float, float, float]
"""x0, y0, x1, y1 as parts of the frame's width and height."""
WHOLE_FRAME: Relative = (0.0, 0.0, 1.0, 1.0)
MAX_REGIONS = 32
"""The most regions of one frame, zones or boxes: each costs a row of the classifier's batch."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture. image_bgr: uint8 (H, W, 3), owned by the source and valid until its next `read`."""

    frame_id: int
    """The number of the frame. Frames that were not read are counted, so that a gap is a drop."""
    captured_ns: int
    """The time of capture or of arrival (see age_basis), on the monotonic clock: the age is now minus this."""
    image_bgr: Bytes
    media_ns: int = 0
    """Its time in the source: captured_ns for a live source, frame_id / fps for a recorded one."""
    ground_truth: Mapping[str, str | None] = field(default_factory=dict)
    """{zone: class, or None for not known}; empty where the source has no ground truth."""
    name: str = ""
    """The file it came from, where there is one."""
    drops: int | None = None
    """The number of frames lost before it, if that was recorded; else it is counted from the ids."""
    age_basis: AgeBasis = AgeBasis.ARRIVAL


def read_relative(value: Any, field: str) -> Relative:
    """Return `value` as x0, y0, x1, y1 in 0..1 with x0 < x1 and y0 < y1. Raises InputError naming the field."""
    # a bool is an int in Python, and true is no coordinate
    numbers = isinstance(value, (list, tuple)) and all(
        isinstance(part, (int, float)) and not isinstance(part, bool) for part in value
    )
    if not numbers or len(value) != 4:
        raise InputError(f"{field} is {value!r:.40}: give [x0, y0, x1, y1]")
    x0, y0, x1, y1 = value
    if not (0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1):  # before float(), which refuses a very large integer
        raise InputError(f"{field} is {value!r:.40}: give parts of the frame, 0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1")
    return float(x0), float(y0), float(x1), float(y1)


def parse_zones(value: Mapping[str, Any]) -> dict[str, Relative]:
    """Return zones by name. Raises InputError for too many, or naming the one whose rectangle or name is no good."""
    if len(value) > MAX_REGIONS:
        raise InputError(f"there are {len(value)} zones: give {MAX_REGIONS} at most")
    return {check_name(name, "a zone's name"): read_relative(rect, f"zones.{name}") for name, rect in value.items()}


def check_name(name: str, what: str, most: int = 100) -> str:
    """Return a name that people are shown. Raises InputError when it is empty, too long or not one printable line."""
    if not name.strip() or not name.isprintable():
        raise InputError(f"{what} is {name!a:.80}: give one line of printable text")
    if len(name) > most:
        raise InputError(f"{what} has {len(name)} characters ({name:.20}...): give {most} at most")
    return name
