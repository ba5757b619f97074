"""The configuration of a detector in front of the classifier: a bundle's `detector`, and camera.json's `regions`."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from core.codec import to_json
from core.errors import InputError, check_number, check_threads
from core.geometry.frame import MAX_REGIONS, WHOLE_FRAME, Relative, check_name, read_relative

FITS = ("center", "top_left", "stretch")
COLORS = ("rgb", "bgr")


@dataclass(frozen=True)
class DetectorInput:
    """The preprocessing of a detector: a frame is fitted, padded, and becomes (pixel - mean) / std."""

    fit: str = "center"
    """center and top_left keep the aspect ratio and pad; stretch does not."""
    color: str = "rgb"
    pad: int = 114
    """Gray level of the padding."""
    mean: float | list[float] = 0.0
    """The mean in gray levels, one number for all channels or one for each."""
    std: float | list[float] = 255.0
    size_hw: tuple[int, int] | None = None
    """Height and width in pixels; None: as the file says."""

    def __post_init__(self) -> None:
        if self.fit not in FITS:
            raise InputError(f"input.fit is {self.fit!r:.40}: give one of {', '.join(FITS)}")
        if self.color not in COLORS:
            raise InputError(f"input.color is {self.color!r:.40}: give one of {', '.join(COLORS)}")
        check_number("input.pad", self.pad, 0, 255)
        for name in ("mean", "std"):
            value = getattr(self, name)
            numbers = value if isinstance(value, list) else [value]
            if len(numbers) not in (1, 3):
                raise InputError(f"input.{name} is {value!r:.40}: give one number, or three")
            for number in numbers:
                # the pixels are divided by std
                check_number(f"input.{name}", number, 0 if name == "mean" else 1e-6, 1e6)
        if self.size_hw is not None:
            if not isinstance(self.size_hw, (list, tuple)) or len(self.size_hw) != 2:
                raise InputError(f"input.size_hw is {self.size_hw!r:.40}: give [height, width]")
            for side in self.size_hw:
                check_number("input.size_hw", side, 32, 4096, whole=True)
            object.__setattr__(self, "size_hw", tuple(self.size_hw))  # JSON has lists alone


@dataclass(frozen=True)
class DetectorConfig:
    """The settings of a detector. Empty values and None are filled in from its file, in `resolve_config`."""

    layout: str = ""
    """The layout of its outputs, a module of inference/detectors; empty: recognized by the outputs."""
    input: DetectorInput | None = None
    """None: as its family prepares frames."""
    names: tuple[str, ...] = ()
    """Its classes, in order; empty: as its metadata says, or COCO's where it has 80 or 91."""
    counts: tuple[str, ...] = ()
    """The classes whose boxes are classified; empty: the road users of COCO that it knows, else all."""
    threshold: float = 0.3
    """A box with a lower score is left out."""
    overlap: float = 0.5
    """Boxes with a larger intersection over union count as one; the one with the higher score stays."""
    agnostic: bool = True
    """Boxes of different classes suppress each other too: one object, one box."""
    most: int = 16
    """The boxes of one frame with the highest scores, at most this many, are classified."""
    min_side_px: int = 32
    """A box of less area than a square of this side, in pixels of the upright frame, is UNKNOWN: too small to tell."""
    look_at: Relative = WHOLE_FRAME
    """The part of the frame that the detector sees."""
    every: int = 1
    """The detector runs on each n-th frame; tracks carry its boxes on in between."""
    threads: int | None = None
    """None: as many as the classifier has."""

    def __post_init__(self) -> None:
        check_number("threshold", self.threshold, 0, 1)
        if self.threshold == 1:
            raise InputError("threshold is 1: no score is over it; give a number under 1, such as 0.3")
        check_number("overlap", self.overlap, 0, 1)
        check_number("most", self.most, 1, MAX_REGIONS, whole=True)
        check_number("min_side_px", self.min_side_px, 0, 4096, whole=True)
        check_number("every", self.every, 1, 100, whole=True)
        check_threads(self.threads)
        if not isinstance(self.agnostic, bool):
            raise InputError(f"agnostic is {self.agnostic!r:.40}: give true or false")
        if not isinstance(self.layout, str):
            raise InputError(f"layout is {self.layout!r:.40}: give a name")
        for name in ("names", "counts"):
            value = getattr(self, name)
            if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) for item in value):
                raise InputError(f"{name} is {value!r:.40}: give a list of names")
            object.__setattr__(self, name, tuple(value))
        object.__setattr__(self, "look_at", read_relative(self.look_at, "look_at"))

    def as_json(self) -> dict[str, Any]:
        """Return the JSON object that `from_json` reads."""
        body: dict[str, Any] = to_json(self)
        return body

    @classmethod
    def from_json(cls, body: Any) -> DetectorConfig:
        """Read an object of any of the fields. Raises InputError naming the field."""
        values = _known(cls, body, "the detector")
        # an object inside the object: its keys are checked by themselves
        if (given := values.get("input")) is not None:
            values["input"] = DetectorInput(**_known(DetectorInput, given, "input"))
        return cls(**values)


@dataclass(frozen=True)
class DetectorFile:
    """A detector's ONNX file and its settings."""

    path: Path
    config: DetectorConfig = field(default_factory=DetectorConfig)

    @property
    def size_hw(self) -> tuple[int, int] | None:
        """The height and width that its settings state; None: as the file says."""
        return self.config.input.size_hw if self.config.input else None

    @classmethod
    def from_json(cls, body: Any, folder: Path) -> DetectorFile:
        """Read camera.json's `regions`: `detector`, a file beside it, and any fields of DetectorConfig."""
        example = 'give {"detector": "FILE.onnx"}, a file beside it'
        if not isinstance(body, dict):
            raise InputError(f"regions is {body!r:.40}: {example}")
        if "detector" not in body:
            raise InputError(f"regions has no key `detector`: {example}, with the other keys")
        if not isinstance(body["detector"], str):
            raise InputError(f"regions.detector is {body['detector']!r:.40}: {example}")
        rest = {key: value for key, value in body.items() if key != "detector"}
        file = check_name(body["detector"], "regions.detector", most=4096)
        return cls(folder / file, DetectorConfig.from_json(rest))


def stated_size_hw(metadata: Mapping[str, str]) -> tuple[int, int] | None:
    """Return the height and width in an ONNX file's metadata, where Ultralytics writes the size of its export."""
    # from a file of unknown origin: deep nesting ends in MemoryError or RecursionError
    try:
        height, width = ast.literal_eval(metadata.get("imgsz", ""))
        return int(height), int(width)
    except (ValueError, SyntaxError, TypeError, OverflowError, MemoryError, RecursionError):
        return None


def _known(kind: type, body: Any, what: str) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise InputError(f"{what} is {body!r:.40}: give an object")
    names = [item.name for item in fields(kind)]
    if unknown := sorted(set(body) - set(names)):
        raise InputError(f"{what} has the unknown key {unknown[0]!r}: choose from {', '.join(names)}")
    return dict(body)
