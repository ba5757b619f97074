"""Reads cameras and streams through OpenCV's VideoCapture; V4L2, CSI and network sources share it."""

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
from inference.capture.ffmpeg import open_failure
from inference.capture.live import Reader

BROKEN_FRAMES = 10
"""A camera is lost after this many frames in a row that cannot be decoded; fewer count as drops."""
MJPG = cv2.VideoWriter.fourcc(*"MJPG")
REFUSED = re.compile(r"(?:failed:|error) (401|403)\b")
"""FFmpeg's message when an HTTP or RTSP server wants another user or password."""
ANSWERS_S = 3.0
"""A stream that fails to open after longer than this did not answer, and the reason is not looked for."""
QUEUED_INTERVALS, QUEUED_S = 0.75, 1.0
"""A frame that comes sooner than this fraction of an interval lay in a queue; emptying one takes QUEUED_S at most."""
JPEG_END, PADDING = b"\xff\xd9", 64
"""A whole JPEG ends with these bytes; some cameras pad it after them. OpenCV 4.12 and 5.0 check this themselves."""


class CaptureReader(Reader):
    """Reads frames through OpenCV. The time is taken between grabbing and decoding, the earliest that can be known."""

    def __init__(self, target: str | int, name: str, api: int, options: Sequence[int] = ()) -> None:
        self._target = target
        self._name = name
        self._api = api
        self._options = options
        self._capture: cv2.VideoCapture | None = None
        self._queue_empty = api != cv2.CAP_FFMPEG
        """Whether the frames that were queued while the stream opened have been skipped; only FFmpeg queues any."""
        self._packets = False
        """Whether the stream consists of JPEGs; they are received undecoded and decoded here."""

    def open(self) -> None:
        """Open the device or stream. Raises SourceLost when it does not answer."""
        started = monotonic()
        self._capture = cv2.VideoCapture(self._target, self._api, list(self._options))
        if not self._capture.isOpened():
            raise self._open_error(monotonic() - started)
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        if math.isfinite(fps) and 1 <= fps <= 1000:
            self.fps = fps
        # FFmpeg decodes a truncated JPEG without an error: below the cut, the picture shows an older frame
        motion_jpeg = self._api == cv2.CAP_FFMPEG and int(self._capture.get(cv2.CAP_PROP_FOURCC)) == MJPG
        self._packets = motion_jpeg and self._capture.set(cv2.CAP_PROP_FORMAT, -1)

    def _open_error(self, tried_s: float) -> SourceLost:
        """Return the error of a device or stream that does not open, with FFmpeg's reason where it gives one."""
        if tried_s > ANSWERS_S:
            return SourceLost(f"{self._name} does not answer within {tried_s:.0f} s")
        if self._api != cv2.CAP_FFMPEG:
            return SourceLost(f"{self._name} does not open")
        reason = open_failure(str(self._target))
        if refused := REFUSED.search(reason):
            hint = "write the right user and password before the host, with a colon between them and an @ after them"
            return SourceRefused(f"{self._name} refuses access ({refused.group(1)}, unauthorized): {hint}")
        silent = "FFmpeg gives no reason: the stream answers by now, or this FFmpeg was built without its protocol"
        return SourceLost(f"{self._name} does not open: {public_text(reason) or silent}")

    def read(self, frame_id: int, spare: Bytes | None) -> Frame:
        """Return the next picture; after opening, the newest. Raises SourceLost when the camera gives none.

        FFmpeg reads up to a second of a stream to learn what is in it, and then delivers those frames at once. At 30
        fps that is 30 old frames, which would be stamped as new. They are skipped, and count as drops.
        """
        frame = self._read(frame_id, spare)
        opened = monotonic()
        with suppress(SourceLost):  # a stream that ends here still gives its last picture; the next read raises
            while not self._queue_empty:
                started = monotonic()
                frame = self._read(frame.frame_id + 1, frame.image_bgr)
                ended = monotonic()
                # a frame that had to be waited for was not in the queue
                self._queue_empty = ended - started > QUEUED_INTERVALS / self.fps or ended - opened > QUEUED_S
        self._queue_empty = True
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
        """Return the driver's time stamp where it is plausible on the monotonic clock, else the time of arrival.

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
        """Close the device or stream."""
        if self._capture is not None:
            self._capture.release()


def decode_whole(packet: Bytes) -> Bytes | None:
    """Decode a JPEG's bytes, uint8 (1, n), to uint8 (H, W, 3) BGR; None where its end is missing."""
    data = packet.ravel()
    return decode(data) if JPEG_END in data[-PADDING:].tobytes() else None
