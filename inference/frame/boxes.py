"""Reads boxes.jsonl: the regions of each frame from any other detector, in place of fixed zones.

One line a frame: {"frame": 12, "boxes": [{"rect": [x0, y0, x1, y1], "name": "track7", "truth": "car"}]}, in pixels
of the upright picture; {"file": "a.jpg", ...} for a folder of images. name and truth may be left out; a frame without
a line has no box. In place of the file, a pack gives the rectangles of its test rows, for the data set behind it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import InputError
from core.geometry.frame import MAX_REGIONS, Bytes, Frame, Rect, check_name
from core.geometry.preprocess import clip_rect
from inference.frame.regions import Regions, RegionSource

HINT = 'write {"frame": 0, "boxes": [{"rect": [10, 20, 90, 80]}]} on each line'
KEYS = frozenset({"rect", "name", "truth"})


@dataclass(frozen=True)
class FrameBox:
    """One region of one frame."""

    rect: Rect
    name: str
    truth: str | None


class FrameBoxes(RegionSource):
    """The boxes of every frame, by frame id or by file name."""

    fixed = persistent = False

    def __init__(self, boxes: Mapping[int | str, tuple[FrameBox, ...]]) -> None:
        self._boxes = boxes
        self.names = ("boxes",)
        self.max_regions = max((len(b) for b in boxes.values()), default=0) or 1
        """The most boxes of one frame."""
        self._seen: set[int | str] = set()

    def regions_of(self, frame: Frame, picture_bgr: Bytes) -> Regions:
        """Return the regions of one frame, clipped to it."""
        height, width = picture_bgr.shape[:2]
        # boxes.jsonl names pictures of a folder by their file, frames of a video by their number
        key = frame.name if frame.name in self._boxes else frame.frame_id
        self._seen.add(key)
        boxes = self._boxes.get(key, ())
        rects = [clip_rect(b.rect, width, height) for b in boxes]
        # clipping leaves a pixel of every box, so those outside must be named: their pixel shows nothing of them
        outside = [b.name for b in boxes if not _touches(b.rect, width, height)]
        return Regions([b.name for b in boxes], rects, {b.name: b.truth for b in boxes}, outside)

    def unmatched(self) -> list[int | str]:
        """Return the frame ids and file names that have boxes and whose frames did not come."""
        keys = []
        for key, boxes in self._boxes.items():
            if boxes and key not in self._seen:
                keys.append(key)
        return keys


def _touches(rect: Rect, width: int, height: int) -> bool:
    x0, y0, x1, y1 = rect
    return x0 < width and y0 < height and x1 > 0 and y1 > 0


def read_boxes(path: Path) -> FrameBoxes:
    """Read boxes.jsonl, or a pack's folder. Raises InputError naming the file, the line and the field."""
    if path.is_dir():
        return _boxes_of_pack(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}): {HINT}") from None
    found: dict[int | str, tuple[FrameBox, ...]] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            key, boxes = _read_line(line)
            if key in found:
                raise InputError(f"{key!r} has a line already")
            found[key] = boxes
        except InputError as error:
            raise InputError(f"{path} line {number}: {error}: {HINT}") from None
    if not found:
        raise InputError(f"{path} holds no line: {HINT}")
    return FrameBoxes(found)


def _boxes_of_pack(path: Path) -> FrameBoxes:
    """Return the rectangles that the rows of its test split were cut from, each with its label as the truth."""
    from core.data.pack import open_pack  # here, so that a run without a pack starts sooner

    pack = open_pack(path)
    found: dict[int | str, list[FrameBox]] = {}
    for row in pack.rows("test"):
        if (rect := pack.boxes_n[row]) is None:
            raise InputError(f"{path} was not packed from a detection data set: its rows have no boxes")
        found.setdefault(str(pack.sources_n[row]), []).append(
            FrameBox(rect, f"row{row}", pack.classes[int(pack.labels_n[row])])
        )
    if not found:
        raise InputError(f"{path} has no test rows: pack again")
    return FrameBoxes({source: tuple(boxes) for source, boxes in found.items()})


def _read_line(line: str) -> tuple[int | str, tuple[FrameBox, ...]]:
    try:
        body = json.loads(line)
    except (ValueError, RecursionError):
        raise InputError("it is not JSON") from None
    if not isinstance(body, dict) or not isinstance(body.get("boxes"), list):
        raise InputError("boxes is not a list")
    key = body.get("file", body.get("frame"))
    if isinstance(key, bool) or not isinstance(key, str if "file" in body else int):  # a bool is an int
        raise InputError("there is neither a frame (a number) nor a file (a name)")
    if len(body["boxes"]) > MAX_REGIONS:
        raise InputError(f"there are {len(body['boxes'])} boxes, {MAX_REGIONS} are the most")
    boxes = tuple(_read_box(box, f"box{i}") for i, box in enumerate(body["boxes"]))
    if len({b.name for b in boxes}) < len(boxes):
        raise InputError("two boxes have one name")
    return key, boxes


def _read_box(box: Any, name: str) -> FrameBox:
    if not isinstance(box, dict) or set(box) - KEYS:
        raise InputError(f"{name} is not an object of rect, name, truth")
    rect: Any = box.get("rect")
    truth = box.get("truth")
    # by type and not isinstance: true and false are integers in Python; NaN fails the second test
    four = isinstance(rect, list) and len(rect) == 4
    numbers = four and all(type(x) in (int, float) for x in rect)
    if not numbers or not all(abs(x) < 1e6 for x in rect):
        raise InputError(f"rect of {name} is {rect!r:.80}, not four numbers")
    x0, y0, x1, y1 = (round(x) for x in rect)
    if not (x0 < x1 and y0 < y1):
        raise InputError(f"rect of {name} is {rect!r}, which is empty in whole pixels")
    if not isinstance(box.get("name", name), str) or not isinstance(truth, (str, type(None))):
        raise InputError(f"name or truth of {name} is not a text")
    check_name(box.get("name", name), f"the name of {name}")
    return FrameBox((x0, y0, x1, y1), box.get("name", name), truth)
