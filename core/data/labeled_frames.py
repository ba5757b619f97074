"""The labeled frames of a pack: each frame of a detection data set, with all its objects.

frames.jsonl stands beside rows.csv, one line a frame: {"source": "a.jpg", "group": "a.jpg", "split": "test",
"size_px": [640, 480], "objects": [{"label": "car", "box": [10, 20, 90, 80], "ignored": null}]}. `ignored` is the reason
why packing made no row of an object: the place is not background, but the object is not scored.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from core.data.pack import HINT, SPLITS, Pack
from core.data.picture_reader import read_picture
from core.errors import InputError, check_number
from core.files import write_text
from core.geometry.frame import Bytes, Rect, Relative, read_relative
from core.synthetic import draw_frame

SCHEMA = 1
FILE = "frames.jsonl"


@dataclass(frozen=True, slots=True)
class LabeledObject:
    """One annotated object. `box` is its tight rectangle, in pixels, inside the frame."""

    label: str
    box: Rect
    ignored: str | None = None
    """The reason not to score it: too small, cut off, of no class of the pack; None for an object that counts."""

    def __post_init__(self) -> None:
        x0, y0, x1, y1 = self.box
        if not (0 <= x0 < x1 and 0 <= y0 < y1):
            raise InputError(f"box is {self.box}: give x0 < x1 and y0 < y1, none below 0")


@dataclass(frozen=True, slots=True)
class LabeledFrame:
    """One source image in which every object is annotated.

    Importers leave out images without a label file, or with an annotation that cannot be read.
    """

    source: str
    """Relative to the root of the data set; of the synthetic camera, its address and the number of the frame."""
    group: str
    split: str | None
    """None until the splits are drawn."""
    size_px: tuple[int, int]
    """Width and height."""
    objects: tuple[LabeledObject, ...] = ()


def write_frames(folder: Path, frames: Iterable[LabeledFrame]) -> None:
    """Write frames.jsonl into a pack's folder."""
    write_text(folder / FILE, "".join(json.dumps(asdict(frame)) + "\n" for frame in frames))


def describe_frames(frames: list[LabeledFrame]) -> dict[str, int] | None:
    """Return what pack.json says of the frames; None when there are none."""
    if not frames:
        return None
    objects = [labeled for frame in frames for labeled in frame.objects]
    ignored = sum(labeled.ignored is not None for labeled in objects)
    return {"schema": SCHEMA, "frames": len(frames), "objects": len(objects), "ignored": ignored}


def read_frames(pack: Pack, split: str) -> list[LabeledFrame]:
    """Return the labeled frames of a split. Raises InputError when the pack has none, or the file is damaged."""
    metadata = pack.metadata.get("frames")
    if not isinstance(metadata, dict):
        raise InputError(
            f"{pack.path} holds no labeled frames: give --frames-of the pack of a detection data set, or of `synthetic`"
        )
    if metadata.get("schema") != SCHEMA:
        raise InputError(f"{pack.path}: frames.schema is {metadata.get('schema')!r}, not {SCHEMA}; {HINT}")
    file = pack.path / FILE
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read ({error}); {HINT}") from None
    # a file that was cut off at the end of a line has only whole lines
    if len(lines) != metadata.get("frames"):
        raise InputError(f"{file} has {len(lines)} frames, pack.json says {metadata.get('frames')}; {HINT}")
    frames = []
    for number, line in enumerate(lines, 1):
        try:
            frames.append(_read_frame(json.loads(line)))
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError, InputError) as error:
            raise InputError(f"{file}, line {number}, is not a labeled frame ({error}); {HINT}") from None
    return [frame for frame in frames if frame.split == split]


def read_pack_zones(pack: Pack) -> dict[str, Relative]:
    """Return the zones that the pack's rows are; empty where they are boxes or whole pictures."""
    zones = pack.metadata.get("zones") or {}
    if not isinstance(zones, dict):
        raise InputError(f"{pack.path}: zones in pack.json is not an object of rectangles; {HINT}")
    return {name: read_relative(rect, f"{pack.path}: zones.{name}") for name, rect in zones.items()}


def _read_frame(value: dict[str, Any]) -> LabeledFrame:
    width, height = map(int, value["size_px"])
    objects = []
    for labeled in value["objects"]:
        x0, y0, x1, y1 = map(int, labeled["box"])
        if x1 > width or y1 > height:
            raise ValueError(f"box {labeled['box']} leaves the frame of {width}x{height} px")
        ignored = labeled["ignored"]  # required: without it objects to be ignored would be scored
        reason = None if ignored is None else str(ignored)
        objects.append(LabeledObject(str(labeled["label"]), (x0, y0, x1, y1), reason))
    if value["split"] not in SPLITS or width < 1 or height < 1:
        raise ValueError("its split or its size is wrong")
    source = str(value["source"])
    group = str(value["group"])
    return LabeledFrame(source, group, value["split"], (width, height), tuple(objects))


def load_frame(pack: Pack, frame: LabeledFrame) -> Bytes | str:
    """Return the frame's pixels, uint8 (H, W, 3) BGR, or the reason why it cannot be read."""
    if pack.synthetic:
        return draw_frame(frame.source)
    source = pack.metadata.get("source")
    root = source.get("root") if isinstance(source, dict) else None
    if not isinstance(root, str):
        raise InputError(f"{pack.path / 'pack.json'}: source.root is {root!r}, not the folder of the pictures; {HINT}")
    file = Path(root, frame.source)
    pixels = read_picture(file)
    if isinstance(pixels, str):
        return f"{file}: {pixels}"
    # another file under the old name, or one whose EXIF turns it: the boxes would lie elsewhere
    if pixels.shape[1::-1] != frame.size_px:
        return "{} is {}x{} px, its annotation says {}x{}".format(file, *pixels.shape[1::-1], *frame.size_px)
    return pixels


def read_margin(pack: Pack) -> float:
    """Return the context that was cut around the pack's boxes, a part of a side. Raises InputError."""
    options = pack.metadata.get("options")
    margin: Any = options.get("margin") if isinstance(options, dict) else None
    try:
        check_number("options.margin", margin, 0, 2)
    except InputError as error:
        raise InputError(f"{pack.path / 'pack.json'}: {error}; {HINT}") from None
    return float(margin)
