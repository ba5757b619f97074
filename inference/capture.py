"""OpenCV's VideoCapture as a live reader: the cameras and streams that OpenCV can open share it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from time import monotonic_ns

import cv2

from inference.live import Reader
from inference.preprocess import Bytes, decode
from inference.sources import Frame, SourceLost

BROKEN_FRAMES = 10
"""So many in a row that cannot be decoded are a lost camera; fewer are drops."""
MJPG = cv2.VideoWriter.fourcc(*"MJPG")
JPEG_END, PADDING = b"\xff\xd9", 64
"""A whole JPEG ends so, before a few bytes more from some cameras. OpenCV 4.12 and 5.0 ask for it themselves."""


class CaptureReader(Reader):
    """Grab, stamp, then decode, so that the stamp is the earliest this process can know."""

    def __init__(self, target: str | int, name: str, api: int, options: Sequence[int] = ()) -> None:
        self._target, self._name, self._api, self._options = target, name, api, options
        self._capture: cv2.VideoCapture | None = None
        self._packets = False
        """The stream is of JPEGs, which are taken as they come and decoded here."""

    def open(self) -> None:
        """Open the device or stream. Raises SourceLost when it does not answer."""
        self._capture = cv2.VideoCapture(self._target, self._api, list(self._options))
        if not self._capture.isOpened():
            raise SourceLost(f"{self._name} does not open")
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        if math.isfinite(fps) and 1 <= fps <= 1000:
            self.fps = fps
        # FFmpeg decodes a truncated JPEG without a word: fresh above, what an older frame left there below
        motion_jpeg = self._api == cv2.CAP_FFMPEG and int(self._capture.get(cv2.CAP_PROP_FOURCC)) == MJPG
        self._packets = motion_jpeg and self._capture.set(cv2.CAP_PROP_FORMAT, -1)

    def read(self, frame_id: int, spare: Bytes | None) -> Frame:
        """Return the next picture. Raises SourceLost when the camera gives none."""
        assert self._capture is not None, "open comes first"
        for broken in range(BROKEN_FRAMES):
            if not self._capture.grab():
                raise SourceLost(f"{self._name} gives no more frames")
            grabbed_ns = monotonic_ns()
            ok, image = self._capture.retrieve(None if self._packets else spare)
            if ok and self._packets:
                image = decode_whole(image)  # type: ignore[arg-type, assignment]
            if ok and image is not None:
                captured_ns = self._driver_ns(grabbed_ns)
                return Frame(frame_id + broken, captured_ns, image, captured_ns)  # type: ignore[arg-type]
        raise SourceLost(f"{self._name} gives frames that cannot be decoded")

    def _driver_ns(self, grabbed_ns: int) -> int:
        """Return the driver's time stamp where it is on the monotonic clock and plausible, else our own.

        V4L2 stamps buffers with CLOCK_MONOTONIC; OpenCV hands them on as CAP_PROP_POS_MSEC.
        """
        assert self._capture is not None
        if self._api != cv2.CAP_V4L2:
            return grabbed_ns
        stamp_ns = round(self._capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
        return stamp_ns if 0 <= grabbed_ns - stamp_ns < 1_000_000_000 else grabbed_ns

    def close(self) -> None:
        """Let go of the device."""
        if self._capture is not None:
            self._capture.release()


def decode_whole(packet: Bytes) -> Bytes | None:
    """Decode a JPEG's bytes, uint8 (1, n), to uint8 (H, W, 3) BGR; None where its end is missing."""
    data = packet.ravel()
    return decode(data) if JPEG_END in data[-PADDING:].tobytes() else None
