"""Reads a camera on the network through OpenCV's FFmpeg: RTSP, MJPEG over HTTP and the other streams FFmpeg reads.

FFmpeg's decoder runs in one thread. With n threads it holds back n - 1 frames: at 30 fps the true age of a 1280x720
H.264 frame was 36 ms at one thread, 69 ms at two and 269 ms at eight (one run of 150 frames each, loopback,
2026-11-26; docs/results/2026-11-26-rtsp-age.md).
"""

from __future__ import annotations

import cv2

from core.errors import InputError
from core.redact import public_uri
from inference.capture.live import LiveSource
from inference.capture.reader import CaptureReader

SCHEMES = ("rtsp", "rtsps", "rtmp", "udp", "srt", "http", "https")
# milliseconds; OpenCV's own time-outs are 30 s, which the runner would take for a hang
OPTIONS = (
    *(cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, 5000),
    *(cv2.CAP_PROP_READ_TIMEOUT_MSEC, 2000),
    *(cv2.CAP_PROP_N_THREADS, 1),
)


def open_source(uri: str) -> LiveSource:
    """Open the stream in its own thread: the newest frame wins. Raises InputError where the URI names no host."""
    scheme, rest = uri.split("://", 1)
    if not rest or rest.startswith("/"):
        raise InputError(f"{public_uri(uri)} names no host: give {scheme.lower()}://HOST/..")
    target = f"{scheme.lower()}://{rest}"  # FFmpeg knows no RTSP://
    return LiveSource(lambda: CaptureReader(target, public_uri(uri), cv2.CAP_FFMPEG, OPTIONS))
