"""camera.json: how the camera is mounted and where its zones are."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from inference.errors import InputError
from inference.files import read_json
from inference.preprocess import Bytes
from inference.regions import Relative, read_relative

ROTATIONS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}
WHOLE_PICTURE = (0.0, 0.0, 1.0, 1.0)
KEYS = ("zones", "rotation", "crop", "mirror_for_people", "mirror_for_network")
MEND = (
    'write {"zones": {"ego": [0.3, 0.4, 0.7, 1.0]}}, optionally rotation, crop, mirror_for_people, mirror_for_network'
)


@dataclass(frozen=True)
class Camera:
    """The mounting. Zones and crop are relative to the upright picture: rotation first, then crop, then mirror."""

    zones: dict[str, Relative] = field(default_factory=dict)
    """Empty: the source's own zones, else the whole frame."""
    rotation: int = 0
    """Degrees clockwise that make the picture upright: 0, 90, 180 or 270."""
    crop: Relative = WHOLE_PICTURE
    mirror_for_people: bool = False
    """Flip the overlay and the page left to right, as a mirror shows it; labels stay readable."""
    mirror_for_network: bool = False
    """Flip what is classified: only for a camera that mirrors by itself, or a network trained so."""

    def __post_init__(self) -> None:
        if self.rotation not in (0, *ROTATIONS):
            raise InputError(f"rotation is {self.rotation!r}: give 0, 90, 180 or 270")
        for name in ("mirror_for_people", "mirror_for_network"):
            if not isinstance(getattr(self, name), bool):
                raise InputError(f"{name} is {getattr(self, name)!r}: give true or false")


def read_camera(path: Path) -> Camera:
    """Read camera.json. Raises InputError naming the file and the field."""
    body = read_json(path, MEND)
    if not isinstance(body, dict):
        raise InputError(f"{path} is not a JSON object: {MEND}")
    if unknown := sorted(set(body) - set(KEYS)):
        raise InputError(f"{path} has the unknown key {unknown[0]!r}: choose from {', '.join(KEYS)}")
    zones = body.get("zones", {})
    if not isinstance(zones, dict) or ("zones" in body and not zones):
        raise InputError(f"{path}: zones is not an object of rectangles: {MEND}")
    values: dict[str, Any] = dict(body)
    try:
        values["zones"] = {name: read_relative(rect, f"zones.{name}") for name, rect in zones.items()}
        values["crop"] = read_relative(body.get("crop", WHOLE_PICTURE), "crop")
        return Camera(**values)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


class Mounting:
    """Turns a camera's frames upright, into one reused buffer; a camera that needs nothing costs nothing."""

    def __init__(self, camera: Camera) -> None:
        self._camera = camera
        self._turned: Bytes | None = None
        self._flipped: Bytes | None = None

    def upright(self, frame_bgr: Bytes) -> Bytes:
        """Return the picture the zones speak of: `frame_bgr` itself, a view of it, or a buffer reused by the next."""
        camera = self._camera
        if camera.rotation:
            self._turned = np.asarray(cv2.rotate(frame_bgr, ROTATIONS[camera.rotation], dst=self._turned), np.uint8)
            frame_bgr = self._turned
        if camera.crop != WHOLE_PICTURE:
            height, width = frame_bgr.shape[:2]
            x0, y0, x1, y1 = camera.crop
            left, top = min(int(x0 * width), width - 1), min(int(y0 * height), height - 1)
            frame_bgr = frame_bgr[top : max(round(y1 * height), top + 1), left : max(round(x1 * width), left + 1)]
        if camera.mirror_for_network:
            self._flipped = np.asarray(cv2.flip(frame_bgr, 1, dst=self._flipped), np.uint8)
            frame_bgr = self._flipped
        return frame_bgr
