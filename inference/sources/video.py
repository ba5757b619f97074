"""Reads every frame of a video file, into one reused buffer."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from time import monotonic_ns
from typing import Any

import cv2

from core.data.picture_reader import opencv_path
from core.errors import InputError
from core.geometry.frame import Bytes, Frame
from core.redact import public_uri
from inference.capture.base import EndOfStream, Source
from inference.capture.ffmpeg import open_failure
from inference.sources import GRAMMAR

log = logging.getLogger(__name__)

DEFAULT_FPS = 25.0
"""The frame rate of a file that states none."""
INDEXED = frozenset({b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"})
"""The kinds of box that an MP4 or MOV file begins with, at byte 4; its index counts its frames."""
SLACK_S = 1.0
"""The tolerated shortfall where the frame count comes from the length: sound often lasts longer than pictures."""


def open_source(uri: str) -> VideoSource:
    """Open a video file. Raises InputError when it is missing, no video, or has no frame."""
    file, name = Path(uri), public_uri(uri)
    if not file.exists():
        raise InputError(f"{name} does not exist: give {GRAMMAR}")
    if not file.is_file():
        raise InputError(f"{name} is neither a file nor a folder: give {GRAMMAR}")
    if not file.stat().st_size:
        raise InputError(f"{name} is empty: copy or record it again")
    return VideoSource(uri)


class VideoSource(Source):
    """Frames in order; their time is their place in the film. What is missing or odd is logged once, at the end."""

    def __init__(self, uri: str) -> None:
        self._name = public_uri(uri)
        self._capture = cv2.VideoCapture(opencv_path(uri), cv2.CAP_FFMPEG)
        opened = self._capture.isOpened()
        # read here, so that a file without a frame is refused before a backend is opened
        ok, first = self._capture.read() if opened else (False, None)
        if not ok or first is None:
            self._capture.release()
            reason = "it has no frame" if opened else open_failure(uri) or "FFmpeg finds no picture in it"
            if "moov" in reason:  # the atom of an MP4 with its index, which a recorder writes last
                reason = "it has no index: its end is missing, or it is no video"
            raise InputError(
                f"{self._name} is not a video that can be read ({reason}): copy it again, or give {GRAMMAR}"
            )
        # a container may hold no rate, or a nonsensical one
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps if math.isfinite(fps) and 0 < fps <= 1000 else DEFAULT_FPS
        self._clock = MediaClock(self.fps)
        self._announced = AnnouncedLength(Path(uri), self._capture.get(cv2.CAP_PROP_FRAME_COUNT), fps)
        self._image: Bytes = first  # type: ignore[assignment]
        self._next = 0
        self._media_ns = 0
        self._ended = False

    def read(self, timeout_s: float) -> Frame | None:
        """Return the next frame. Raises EndOfStream after the last."""
        if self._next:
            ok, image = self._capture.read(self._image)
            if not ok:
                self._ended = True
                raise EndOfStream
            self._image = image  # type: ignore[assignment]
        index = self._next
        self._next += 1
        self._media_ns = self._clock.at(self._capture.get(cv2.CAP_PROP_POS_MSEC))
        return Frame(index, monotonic_ns(), self._image, self._media_ns)

    def close(self) -> None:
        """Close the file, and log what was wrong with it."""
        if not self._capture.isOpened():
            return
        self._capture.release()
        if self._is_cut_short():
            announced = f"{self._next} of {self._announced.frames} announced frames"
            reason = "it was cut short, trimmed without being encoded anew, or its sound lasts longer"
            log.warning(f"{self._name} ended after {announced}: {reason}")
        if self._clock.counted:
            untimed = f"{self._clock.counted} of {self._next} frames have no time that rises"
            log.warning(f"{self._name}: {untimed}: their time is counted at {self.fps:g} fps")

    def _is_cut_short(self) -> bool:
        return self._ended and self._announced.is_missed(self._next, self._media_ns / 1e9 + 1 / self.fps)

    def report(self) -> dict[str, Any]:
        """Return how many frames the file announced and gave; announced is None where the file says nothing."""
        return {
            "frames_announced": self._announced.frames,
            "frames_read": self._next,
            "cut_short": self._is_cut_short(),
            "frames_timed_by_fps": self._clock.counted,
        }


class MediaClock:
    """Times frames by the container's time where that rises, else by the interval of the frame rate.

    Counting by fps alone is wrong by seconds where the frame rate varies, as phones and screen recorders write it.
    """

    def __init__(self, fps: float) -> None:
        self._interval_ns = round(1e9 / fps)
        self._position_ms: float | None = None
        self._media_ns = 0
        self.counted = 0
        """The number of frames whose time did not rise."""

    def at(self, position_ms: float) -> int:
        """Return the time of the next frame in nanoseconds, 0 for the first. position_ms: CAP_PROP_POS_MSEC."""
        before_ms = self._position_ms
        self._position_ms = position_ms
        if before_ms is None:
            return 0
        # by differences: where two recordings were joined, the container's time falls once and then rises again
        if position_ms > before_ms:
            self._media_ns += round((position_ms - before_ms) * 1e6)
        else:
            self._media_ns += self._interval_ns
            self.counted += 1
        return self._media_ns


class AnnouncedLength:
    """The number of frames that a file announces: by its index, or else by its length and its frame rate."""

    def __init__(self, file: Path, frames: float, fps: float) -> None:
        with file.open("rb") as stream:
            head = stream.read(8)
        self._counted = head[4:] in INDEXED or head.startswith(b"RIFF")
        self._fps = fps
        self.frames = round(frames) if 0 < frames < 1e9 else None

    def is_missed(self, frames: int, length_s: float) -> bool:
        """Return whether a film with this many frames and seconds is shorter than was announced."""
        if self.frames is None or frames >= self.frames:
            return False
        return self._counted or self.frames / self._fps - length_s > SLACK_S
