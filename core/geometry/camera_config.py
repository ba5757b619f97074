"""The camera configuration, camera.json: the mounting of the camera, and its zones."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import cv2

from core.codec import to_json
from core.errors import InputError
from core.files import read_object
from core.geometry.detector_config import DetectorFile
from core.geometry.frame import WHOLE_FRAME, Relative, parse_zones, read_relative

PICTURE_KEYS = ("rotation", "crop", "mirror_for_network")
"""The keys that change the picture for the network: `FrameOrientation` applies them, `check_upright` refuses them."""
ROTATIONS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}


@dataclass(frozen=True)
class CameraConfig:
    """The mounting. Zones and crop are relative to the upright picture: rotation first, then crop, then mirror.

    A new field that changes the picture for the network goes into PICTURE_KEYS and `FrameOrientation`, too.
    """

    zones: dict[str, Relative] = field(default_factory=dict)
    """Empty: the source's own zones, else the whole frame."""
    rotation: int = 0
    """Degrees clockwise that make the picture upright: 0, 90, 180 or 270."""
    crop: Relative = WHOLE_FRAME
    mirror_for_people: bool = False
    """Flip the overlay and the page left to right, as a mirror shows it; labels stay readable."""
    mirror_for_network: bool = False
    """Flip what is classified: only for a camera that mirrors by itself, or a network trained so."""
    detector: DetectorFile | None = None
    """A detector whose boxes are classified, in place of zones; its key in camera.json is `regions`."""

    def __post_init__(self) -> None:
        if self.rotation not in (0, *ROTATIONS):
            raise InputError(f"rotation is {self.rotation!r:.40}: give 0, 90, 180 or 270")
        if self.zones and self.detector:
            raise InputError("there are zones and regions: give one of the two")
        for name in [item.name for item in fields(self) if item.type == "bool"]:
            if not isinstance(getattr(self, name), bool):
                raise InputError(f"{name} is {getattr(self, name)!r:.40}: give true or false")

    def picture_keys(self) -> dict[str, object]:
        """Return the keys that change the picture, as they stand in camera.json; without those of a default value."""
        default = CameraConfig()
        values = {key: getattr(self, key) for key in PICTURE_KEYS if getattr(self, key) != getattr(default, key)}
        return {key: to_json(value) for key, value in values.items()}

    def without_picture_keys(self) -> CameraConfig:
        """Return it for pictures to which these keys are applied already."""
        default = CameraConfig()
        return replace(self, **{key: getattr(default, key) for key in PICTURE_KEYS})

    def check_upright(self, path: Path) -> None:
        """Raise InputError when it turns the picture: labeled frames are used as they are stored."""
        if self.picture_keys():
            raise InputError(
                f"{path} turns, crops or mirrors the picture: label upright frames, as `run --record` stores them, "
                "and give the camera.json that stands beside them"
            )


DETECTOR_KEY = "regions"
KEYS = tuple(DETECTOR_KEY if item.name == "detector" else item.name for item in fields(CameraConfig))
HINT = f'write {{"zones": {{"ego": [0.3, 0.4, 0.7, 1.0]}}}}; the keys are {", ".join(KEYS)}'


def read_camera_config(path: Path) -> CameraConfig:
    """Read camera.json. Raises InputError naming the file and the field."""
    body = read_object(path, HINT)
    if unknown := sorted(set(body) - set(KEYS)):
        raise InputError(f"{path} has the unknown key {unknown[0]!r}: choose from {', '.join(KEYS)}")
    zones = body.get("zones", {})
    # {} is refused: like no key at all it would mean the whole frame, and nothing would say so
    if not isinstance(zones, dict) or ("zones" in body and not zones):
        raise InputError(f"{path}: zones is not an object of rectangles: {HINT}")
    values: dict[str, Any] = dict(body)
    try:
        values["zones"] = parse_zones(zones)
        if DETECTOR_KEY in values:
            # beside camera.json, so that the two can be copied together
            values["detector"] = DetectorFile.from_json(values.pop(DETECTOR_KEY), path.parent)
        values["crop"] = read_relative(body.get("crop", WHOLE_FRAME), "crop")
        return CameraConfig(**values)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
