"""Records pictures, decisions and times in a ring on disk (`--record DIR`), for `replay://DIR`."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from core.codec import to_json
from core.data.recording import FACTS, SCHEMA, Configuration, segments_of
from core.errors import InputError
from core.files import write_json
from core.geometry.frame import Bytes, Relative
from inference.capture.base import Source
from inference.capture.segment_writer import SegmentWriter
from inference.frame.decision import Decision
from inference.frame.run_configuration import configuration_of
from inference.sinks import Sink, SinkContext

log = logging.getLogger(__name__)

LOSSY = ".mjpeg", ".jpg", (cv2.IMWRITE_JPEG_QUALITY, 92)
LOSSLESS = ".png", ".png", (cv2.IMWRITE_PNG_COMPRESSION, 1)
"""The suffix of a segment, the suffix that OpenCV knows the format by, and the parameters of its encoder."""


@dataclass(frozen=True)
class Options:
    """Whether, where and how a run is recorded."""

    record: Path | None = None
    """The folder of the recording; None: nothing is recorded."""
    record_mb: int = 2000
    """The size of the ring in megabytes; the oldest segment is dropped for a new one."""
    record_lossless: bool = False
    """PNG in place of JPEG."""
    boxes: Path | None = None
    """The boxes of this run, which are copied into the recording."""

    def __post_init__(self) -> None:
        if self.record_mb < 1:
            raise InputError(f"--record-mb is {self.record_mb}: give 1 or more")
        if self.record is None and self.record_lossless:
            raise InputError("--record-lossless is given without --record: give --record DIR too")


def open_sink(context: SinkContext, options: Options) -> Sink | None:
    """Open the recorder where --record asks for it. Raises InputError when the folder is taken."""
    folder = options.record
    if folder is None:
        return None
    if context.restarts == 0 and (segments_of(folder) or (folder / FACTS).exists()):
        raise InputError(f"{folder} holds a recording already: give --record another folder")
    # a detector's boxes change from frame to frame: they stand in each decision, not in camera.json
    zones = dict(context.camera.zones or context.source.zones or {}) if context.region_source.fixed else {}
    camera: dict[str, Any] = {"mirror_for_people": context.camera.mirror_for_people}
    if zones:
        camera["zones"] = {name: list(rect) for name, rect in zones.items()}
    limit_bytes = options.record_mb * 1_000_000
    recorded = context.source.recorded  # a recording of a replay: its pictures were turned before that
    picture = recorded.picture if recorded else context.camera.picture_keys()
    configuration = configuration_of(context.bundle, context.region_source, picture)
    sink = RecorderSink(
        folder, context.source, zones, context.stamps, limit_bytes, options.record_lossless, configuration
    )
    # no rotation and no crop: the recorded pictures are upright and cropped already
    write_json(folder / "camera.json", camera)
    if options.boxes is not None and options.boxes.is_file():  # a pack is a folder, and its boxes go by file name
        shutil.copyfile(options.boxes, folder / "boxes.jsonl")
    return sink


class RecorderSink(Sink):
    """Encodes pictures and appends them with their decisions. A full disk turns the sink off; the run goes on.

    Only one process may write a folder.
    """

    name = "recorder"
    needs_picture = True
    queue_size = 8

    def __init__(
        self,
        folder: Path,
        source: Source,
        zones: Mapping[str, Relative],
        stamps: tuple[str, ...],
        limit_bytes: int,
        lossless: bool = False,
        configuration: Configuration | None = None,
    ) -> None:
        self._folder = folder
        self._source = source
        self._zones = zones
        self._stamps = stamps
        self._configuration = configuration
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._unlock()
            raise InputError(f"another runner records into {folder}: give --record another folder") from None
        except OSError:  # a network drive locks no folder
            log.debug(f"{folder} cannot be locked", exc_info=True)
        suffix, self._format, self._parameters = LOSSLESS if lossless else LOSSY
        self._writer = SegmentWriter(folder, suffix, limit_bytes)
        self._described = False

    def write(self, decision: Decision, frame_bgr: Bytes | None) -> None:
        """Append one decision with its picture."""
        if not self._described:
            self._describe()
        picture = None
        if frame_bgr is not None:  # STALE and LOST are decisions without a frame
            whole, data = cv2.imencode(self._format, np.asarray(frame_bgr), self._parameters)
            if not whole:
                raise InputError(f"a picture of {frame_bgr.shape} cannot be encoded: give another --camera")
            picture = data.tobytes()
        self._writer.write(decision, picture)

    def _describe(self) -> None:
        """Write recording.json; it waits for the first frame, since only then is the rate of a camera known."""
        source = self._source
        facts = {
            "schema": SCHEMA,
            "fps": source.fps,
            "sequence": source.sequence,
            "synthetic": source.synthetic,
            "stamps": list(self._stamps),
            "zones": {name: list(rect) for name, rect in self._zones.items()},
            "configuration": to_json(self._configuration),
        }
        write_json(self._folder / FACTS, facts)
        self._described = True

    def close(self) -> None:
        """Sync what was written to the disk, and let others record into the folder."""
        self._writer.close()
        self._unlock()

    def _unlock(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
