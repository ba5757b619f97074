"""A camera of this machine through OpenCV: `0` or `/dev/video0` (V4L2)."""

from __future__ import annotations

from pathlib import Path

import cv2

from inference.capture import CaptureReader
from inference.errors import InputError
from inference.live import LiveSource

DOCTOR = "list the cameras with `python -m inference doctor`"


def open_source(uri: str) -> LiveSource:
    """Open the camera in its own thread. Raises InputError when the device is not there."""
    device = f"/dev/video{uri}" if uri.isdigit() else uri
    number = device.removeprefix("/dev/video")
    if not number.isdigit() or not Path(device).exists():
        raise InputError(f"the camera {device} is not there: {DOCTOR}")
    return LiveSource(lambda: CaptureReader(int(number), device, cv2.CAP_V4L2))
