"""OpenCV's VideoCapture as a live reader: the cameras and streams that OpenCV can open share it."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from contextlib import suppress
from time import monotonic, monotonic_ns

import cv2

from core.geometry.frame import AgeBasis, Bytes, Frame
from core.geometry.preprocess import decode
from core.redact import public_text
from inference.capture.base import SourceLost, SourceRefused
from inference.capture.ffmpeg import why_not_open
from inference.capture.live import Reader

BROKEN_FRAMES = 10
"""So many in a row that cannot be decoded are a lost camera; fewer are drops."""
MJPG = cv2.VideoWriter.fourcc(*"MJPG")
REFUSED = re.compile(r"(?:failed:|error) (401|403)\b")
"""What FFmpeg says of an HTTP or RTSP server that wants another user or password."""
ANSWERS_S = 3.0
"""What fails to open later than this did not answer, and is not asked again why."""
QUEUED_INTERVALS, QUEUED_S = 0.75, 1.0
"""A frame that comes sooner than this part of an interval lay in a queue, which is emptied no longer than this."""
JPEG_END, PADDING = b"\xff\xd9", 64
"""A whole JPEG ends so, before a few bytes more from some cameras. OpenCV 4.12 and 5.0 ask for it themselves."""


class CaptureReader(Reader):
    """Grab, stamp, then decode, so that the stamp is the earliest this process can know."""

    def __init__(self, target: str | int, name: str, api: int, options: Sequence[int] = ()) -> None:
        self._target, self._name, self._api, self._options = target, name, api, options
        self._capture: cv2.VideoCapture | None = None
        self._newest = api != cv2.CAP_FFMPEG
        """What lay in a queue before the first frame was passed over."""
        self._packets = False
        """The stream is of JPEGs, which are taken as they come and decoded here."""

    def open(self) -> None:
        """Open the device or stream. Raises SourceLost when it does not answer."""
        started = monotonic()
        self._capture = cv2.VideoCapture(self._target, self._api, list(self._options))
        if not self._capture.isOpened():
            raise self._not_open(monotonic() - started)
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        if math.isfinite(fps) and 1 <= fps <= 1000:
            self.fps = fps
        # FFmpeg decodes a truncated JPEG without a word: fresh above, what an older frame left there below
        motion_jpeg = self._api == cv2.CAP_FFMPEG and int(self._capture.get(cv2.CAP_PROP_FOURCC)) == MJPG
        self._packets = motion_jpeg and self._capture.set(cv2.CAP_PROP_FORMAT, -1)

    def _not_open(self, tried_s: float) -> SourceLost:
        """Return why it does not open, by FFmpeg's own words where it is FFmpeg that opens it."""
        if tried_s > ANSWERS_S:
            return SourceLost(f"{self._name} does not answer within {tried_s:.0f} s")
        if self._api != cv2.CAP_FFMPEG:
            return SourceLost(f"{self._name} does not open")
        reason = why_not_open(str(self._target))
        if refused := REFUSED.search(reason):
            hint = "write the user and the password that it wants before the host, with a colon between and an @ behind"
            return SourceRefused(f"{self._name} refuses us ({refused.group(1)}, unauthorized): {hint}")
        silent = "FFmpeg gives no reason, as when it was built without that protocol"
        return SourceLost(f"{self._name} does not open: {public_text(reason) or silent}")

    def read(self, frame_id: int, spare: Bytes | None) -> Frame:
        """Return the next picture; after opening, the newest. Raises SourceLost when the camera gives none.

        To learn what is in a stream FFmpeg takes in up to a second of it, which it then hands out at once: 30 frames
        that are old, and would be stamped as if they came now. They are passed over, and count as drops.
        """
        frame = self._read(frame_id, spare)
        opened = monotonic()
        with suppress(SourceLost):  # where the stream ends already, its last picture is given first
            while not self._newest:
                started = monotonic()
                frame = self._read(frame.frame_id + 1, frame.image_bgr)
                ended = monotonic()
                self._newest = ended - started > QUEUED_INTERVALS / self.fps or ended - opened > QUEUED_S
        self._newest = True
        return frame

    def _read(self, frame_id: int, spare: Bytes | None) -> Frame:
        assert self._capture is not None, "open comes first"
        for broken in range(BROKEN_FRAMES):
            if not self._capture.grab():
                raise SourceLost(f"{self._name} gives no more frames")
            grabbed_ns = monotonic_ns()
            ok, image = self._capture.retrieve(None if self._packets else spare)
            if ok and self._packets:
                image = decode_whole(image)  # type: ignore[arg-type, assignment]
            if ok and image is not None:
                captured_ns, basis = self._driver_ns(grabbed_ns)
                frame_id += broken
                return Frame(frame_id, captured_ns, image, captured_ns, age_basis=basis)  # type: ignore[arg-type]
        raise SourceLost(f"{self._name} gives frames that cannot be decoded")

    def _driver_ns(self, grabbed_ns: int) -> tuple[int, AgeBasis]:
        """Return the driver's time stamp where it is on the monotonic clock and plausible, else that of its arrival.

        V4L2 stamps buffers with CLOCK_MONOTONIC; OpenCV hands them on as CAP_PROP_POS_MSEC.
        """
        assert self._capture is not None
        if self._api != cv2.CAP_V4L2:
            return grabbed_ns, AgeBasis.ARRIVAL
        stamp_ns = round(self._capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
        if 0 <= grabbed_ns - stamp_ns < 1_000_000_000:
            return stamp_ns, AgeBasis.CAPTURE
        return grabbed_ns, AgeBasis.ARRIVAL

    def close(self) -> None:
        """Let go of the device."""
        if self._capture is not None:
            self._capture.release()


def decode_whole(packet: Bytes) -> Bytes | None:
    """Decode a JPEG's bytes, uint8 (1, n), to uint8 (H, W, 3) BGR; None where its end is missing."""
    data = packet.ravel()
    return decode(data) if JPEG_END in data[-PADDING:].tobytes() else None
