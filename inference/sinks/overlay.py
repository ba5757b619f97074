"""Writes overlay.mp4: every frame with its decision drawn on it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import cv2

from core.data.picture_reader import opencv_path
from core.errors import InputError
from core.files import fsync_path
from core.geometry.frame import Bytes
from inference.capture.base import Source
from inference.frame.annotate import annotate
from inference.frame.decision import Decision
from inference.sinks import Sink, SinkContext

FOLDER_FPS = 2.0
"""The frame rate of an overlay of unrelated pictures, slow enough to look at each."""


@dataclass(frozen=True)
class Options:
    """Whether and where overlay.mp4 is written."""

    out: Path | None = None
    """The folder of the run; None: nothing is written."""
    no_overlay: bool = False
    """Write no overlay."""


def open_sink(context: SinkContext, options: Options) -> Sink | None:
    """Open overlay.mp4 in --out."""
    if options.out is None or options.no_overlay:
        return None
    name = f"overlay-{context.restarts}.mp4" if context.restarts else "overlay.mp4"
    return OverlaySink(options.out / name, context.source, mirror=context.camera.mirror_for_people)


class OverlaySink(Sink):
    """Writes the video to a temporary file, renamed once it is whole. Frames are scaled to the size of the first."""

    name = "overlay.mp4"
    needs_picture = True
    queue_size = 4

    def __init__(self, path: Path, source: Source, *, mirror: bool = False) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        for old in path.parent.glob(f".*.part{path.suffix}"):  # left by a process that was killed
            old.unlink()
        self._path = path
        self._source = source
        self._mirror = mirror
        # OpenCV takes the container from the suffix, so the temporary name keeps it
        self._temporary = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)

    def write(self, decision: Decision, frame_bgr: Bytes | None) -> None:
        """Draw and encode one frame."""
        if frame_bgr is None:
            return
        rendered = annotate(frame_bgr, decision, mirror=self._mirror)
        if self._writer is None:
            # even sides: the encoder stores color at half the width and height
            self._size = (rendered.shape[1] // 2 * 2, rendered.shape[0] // 2 * 2)
            fourcc = cv2.VideoWriter.fourcc(*"mp4v")
            fps = self._source.fps if self._source.sequence else FOLDER_FPS  # known once a camera has given a frame
            self._writer = cv2.VideoWriter(opencv_path(self._temporary), cv2.CAP_FFMPEG, fourcc, fps, self._size)
            if not self._writer.isOpened():
                width, height = self._size
                raise InputError(
                    f"{self._path} of {width}x{height} px cannot be written: give --out a folder with room, frames of "
                    "a size that a video can have, or --no-overlay"
                )
        if (rendered.shape[1], rendered.shape[0]) != self._size:
            rendered = cv2.resize(rendered, self._size, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
        self._writer.write(rendered)

    def close(self) -> None:
        """Finish the video and give it its name."""
        if self._writer is None:
            return
        self._writer.release()
        self._writer = None
        if self._temporary.exists():
            fsync_path(self._temporary)
            os.replace(self._temporary, self._path)
