"""A CSI camera of a Jetson, `csi://0`, through GStreamer's nvarguscamerasrc; only the newest frame is kept."""

from __future__ import annotations

import cv2

from core.errors import InputError
from core.redact import public_uri
from inference.capture.ffmpeg import built_with
from inference.capture.live import LiveSource
from inference.capture.reader import CaptureReader

SCHEMES = ("csi",)
PIPELINE = (
    "nvarguscamerasrc sensor-id={number} ! video/x-raw(memory:NVMM),width=1280,height=720,framerate=30/1 "
    "! nvvidconv ! video/x-raw,format=BGRx ! videoconvert ! video/x-raw,format=BGR "
    "! appsink drop=true max-buffers=1 sync=false"
)
"""drop and max-buffers keep the newest frame only. Source: NVIDIA's accelerated GStreamer guide."""


def open_source(uri: str) -> LiveSource:
    """Open the camera in its own thread. Raises InputError when this OpenCV has no GStreamer."""
    number = uri.removeprefix("csi://")
    if not number.isdigit():
        raise InputError(f"{public_uri(uri)} names no sensor: give csi://0")
    # OpenCV from PyPI is built without GStreamer, and says only that the camera does not open
    if not built_with("GStreamer:").startswith("YES"):
        raise InputError(f"{public_uri(uri)} needs an OpenCV with GStreamer: on a Jetson, JetPack's own")
    return LiveSource(lambda: CaptureReader(PIPELINE.format(number=number), uri, cv2.CAP_GSTREAMER))
