"""A camera on the network by HTTP (MJPEG and what else FFmpeg reads), through OpenCV."""

from __future__ import annotations

import cv2

from inference.capture import CaptureReader
from inference.live import LiveSource

TIMEOUTS = (cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, 5000, cv2.CAP_PROP_READ_TIMEOUT_MSEC, 2000)


def open_source(uri: str) -> LiveSource:
    """Open the stream in its own thread: the newest frame wins, whatever the network holds back."""
    return LiveSource(lambda: CaptureReader(uri, uri, cv2.CAP_FFMPEG, TIMEOUTS))
