"""A camera of this machine through OpenCV: `0`, `/dev/video0` (V4L2), or a link such as /dev/v4l/by-id/..."""

from __future__ import annotations

import cv2

from core.errors import InputError
from inference.capture.live import LiveSource
from inference.capture.reader import CaptureReader
from inference.capture.v4l2 import device_of, query_node

DOCTOR = "list the cameras with `python -m inference doctor`"


def open_source(uri: str) -> LiveSource:
    """Open the camera in its own thread. Raises InputError when the device is not there or is no camera."""
    device = device_of(uri)
    if device is None or not device.exists():
        raise InputError(f"the camera {device or uri} is not there: {DOCTOR}")
    try:
        node = query_node(device)
    except PermissionError:
        raise InputError(f"{device} may not be opened by this user: sudo usermod -aG video $USER") from None
    except OSError as error:
        raise InputError(f"{device} does not answer as a camera ({error.strerror}): {DOCTOR}") from None
    if not node.formats:
        raise InputError(f"{device} gives no pictures ({node.card} has another node for them): {DOCTOR}")
    path = str(device)  # a link such as by-id may point to another number when the camera is opened again
    return LiveSource(lambda: CaptureReader(path, path, cv2.CAP_V4L2))
