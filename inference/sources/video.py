"""A video file, every frame of it, into one reused buffer."""

from __future__ import annotations

import math
from pathlib import Path
from time import monotonic_ns

import cv2

from inference.errors import InputError
from inference.preprocess import Bytes
from inference.redact import public_uri
from inference.sources import GRAMMAR, EndOfStream, Frame, Source

DEFAULT_FPS = 25.0


def open_source(uri: str) -> VideoSource:
    """Open a video file. Raises InputError when it is missing, no video, or has no frame."""
    if not Path(uri).exists():
        raise InputError(f"{public_uri(uri)} does not exist: give {GRAMMAR}")
    if not Path(uri).is_file():
        raise InputError(f"{public_uri(uri)} is neither a file nor a folder: give {GRAMMAR}")
    return VideoSource(uri)


class VideoSource(Source):
    """Frames in order; their time is their place in the film."""

    def __init__(self, uri: str) -> None:
        self._capture = cv2.VideoCapture(uri, cv2.CAP_FFMPEG)
        fps = self._capture.get(cv2.CAP_PROP_FPS) if self._capture.isOpened() else 0.0
        ok, first = self._capture.read() if self._capture.isOpened() else (False, None)
        if not ok or first is None:
            self._capture.release()
            raise InputError(f"{public_uri(uri)} is not a video that can be read: give {GRAMMAR}")
        self.fps = fps if math.isfinite(fps) and 0 < fps <= 1000 else DEFAULT_FPS
        self._image: Bytes = first  # type: ignore[assignment]
        self._next = 0

    def read(self, timeout_s: float) -> Frame | None:
        """Return the next frame. Raises EndOfStream after the last."""
        if self._next:
            ok, image = self._capture.read(self._image)
            if not ok:
                raise EndOfStream
            self._image = image  # type: ignore[assignment]
        index = self._next
        self._next += 1
        return Frame(index, monotonic_ns(), self._image, round(index * 1e9 / self.fps))

    def close(self) -> None:
        """Close the file."""
        self._capture.release()
