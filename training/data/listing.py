"""The interface of importers: the options that they get, and the listing of samples that they return."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from core.data.labeled_frames import LabeledFrame
from core.errors import InputError
from core.geometry.frame import Bytes, Rect, Relative
from core.geometry.preprocess import DEFAULT_KERNEL, Geometry

LoadPicture = Callable[[str], "Bytes | str"]
"""Returns the frame of a sample's source, uint8 (H, W, 3) BGR, or the reason why there is none. It can be pickled."""


@dataclass(frozen=True)
class PackOptions:
    """Everything except the source that decides the content of a pack."""

    size_px: int = 224
    kernel: str = DEFAULT_KERNEL
    seed: int = 0
    group: str | None = None
    """A regular expression, searched in the file name: its group 1, or else the match, names the group."""
    group_csv: Path | None = None
    """A CSV with the columns `file,group`; a file is named relative to the source."""
    resplit: bool = False
    """Ignore the split folders of the source and draw 70/15/15 by group."""
    min_side_px: int = 12
    """Images and boxes whose shorter side is smaller are rejected."""
    classes: str | None = None
    """A class map: a CSV `class,becomes`, or the name of a shipped one (see training/data/classes)."""
    margin: float = 0.1
    """Context around a box, as a part of its width and height, on each side."""
    max_truncated: float = 1.0
    """Boxes of which a larger part is outside the image are left out, where the source says so."""
    max_occluded: int = 3
    """Boxes that are hidden more are left out: 0 visible, 1 partly, 2 largely, 3 unknown."""
    background: int | None = None
    """Number of background rows; by default the average of a class, with `as_zones` all others together."""
    background_from_unlabelled: bool = False
    """Also cut background from pictures without a label file, which may hold objects that nobody labeled."""
    background_class: str | None = None
    """The class that means "nothing here"; without it the class named `background` or `clear`, if there is one."""
    background_from: Path | None = None
    """Frames of one's own camera that background is cut from: a folder of pictures, a video or a recording."""
    false_alarms: Path | None = None
    """A CSV first,last[,region]: frames of the recording in which each class that was said is a false alarm."""
    background_model: Path | None = None
    """A checkpoint: no crop of which it is sure that it shows an object becomes background."""
    as_zones: Path | None = None
    """A camera.json: each of its zones in each labeled frame is a row, in place of each box."""
    allow_leaks: bool = False
    """Keep a picture that stands in two splits of the source; without it that is an error."""
    format: str | None = None
    """The importer; by default, the one that recognizes the source's layout."""
    processes: int | None = None

    def __post_init__(self) -> None:
        Geometry(self.size_px, self.kernel)  # for its errors
        for name, value, low, high in (
            ("min_side_px", self.min_side_px, 1, 100_000),
            ("margin", self.margin, 0.0, 2.0),
            ("max_truncated", self.max_truncated, 0.0, 1.0),
            ("max_occluded", self.max_occluded, 0, 3),
            ("background", self.background or 0, 0, 10_000_000),
        ):
            if not low <= value <= high:
                raise InputError(f"{name} is {value}: give {low} to {high}")
        if self.processes is not None and self.processes < 1:
            raise InputError(f"processes is {self.processes}: give at least 1")
        if (self.background_model or self.false_alarms) and self.background_from is None:
            what = "a background model is" if self.background_model else "false alarms are"
            raise InputError(f"{what} given and no frames: name them with --background-from")
        # two answers to one question: which one wins would have to be remembered
        if self.group is not None and self.group_csv is not None:
            raise InputError("give either a group pattern or a group CSV, not both")
        # now, and not when the first file name is met
        try:
            re.compile(self.group or "")
        except re.error as error:
            raise InputError(f"the group pattern '{self.group}' is not a regular expression ({error})") from None

    @property
    def geometry(self) -> Geometry:
        """The geometry of the pack."""
        return Geometry(self.size_px, self.kernel)

    def as_json(self) -> dict[str, Any]:
        """Return what decides the pack, for pack.json."""
        # files by name alone: a pack stays the same when its source is moved
        value: dict[str, Any] = asdict(self) | {
            name: file.name for name, file in vars(self).items() if isinstance(file, Path)
        }
        del value["processes"], value["allow_leaks"]  # neither changes a row
        return value


@dataclass(frozen=True, slots=True)
class Sample:
    """A planned row: a rectangle of a frame, or the whole frame, and its class."""

    source: str
    """Relative to the listing's root, with forward slashes."""
    label: str
    group: str
    split: str | None
    box: Rect | None = None
    frame_wh: tuple[int, int] | None = None
    """The frame's width and height according to its annotation, to refuse boxes of another frame."""
    unmarked: bool = False
    """A row of background that nobody annotated: a rectangle at random where no object is, or an empty zone."""


@dataclass(frozen=True)
class Listing:
    """The content of a source, as its importer read it."""

    importer: str
    root: str
    """The folder that `Sample.source` is relative to; the address of the synthetic camera."""
    samples: list[Sample]
    classes: tuple[str, ...]
    background: str | None
    synthetic: bool
    load: LoadPicture
    skipped: dict[str, int] = field(default_factory=dict)
    """{reason: number} of annotated boxes that were left out."""
    first_skipped: dict[str, str] = field(default_factory=dict)
    """{reason: the place of the first of them}."""
    warnings: list[str] = field(default_factory=list)
    rejected: list[dict[str, Any]] = field(default_factory=list)
    """{"source", "box", "reason"} of images that the importer itself could not read."""
    frames: list[LabeledFrame] = field(default_factory=list)
    """The images in which every object is annotated, with all their objects."""
    zones: dict[str, Relative] = field(default_factory=dict)
    """The zones that the rows are, where they are zones."""

    def describe_skipped(self) -> str:
        """Return one line: what was left out, and the place of the first of each kind."""
        kinds = []
        for reason, count in self.skipped.items():
            first = f", first {self.first_skipped[reason]}" if reason in self.first_skipped else ""
            kinds.append(f"{count} {reason}{first}")
        return "; ".join(kinds)
