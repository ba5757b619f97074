"""Writes the segments of a recording; core/data/recording.py has the format and reads it."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import IO
from zlib import crc32

from core.data.recording import pictures_of, segments_of
from core.errors import InputError
from core.files import fsync_path
from inference.frame.decision import Decision

SEGMENTS = 8
"""The ring has at least this many segments, so that dropping the oldest loses an eighth of it at most."""
SEGMENT_BYTES = 64_000_000
"""A segment is closed at this size, so that syncing one to the disk does not take long."""


class SegmentWriter:
    """Appends decisions to the segments of `folder`, which never take more than `limit_bytes` together."""

    def __init__(self, folder: Path, suffix: str, limit_bytes: int) -> None:
        self._folder = folder
        self._suffix = suffix
        self._limit = limit_bytes
        # a restarted worker continues the ring: its segments count toward the limit, and their numbers go on
        old = segments_of(folder)
        self._sizes = {f: f.stat().st_size + pictures_of(f).stat().st_size for f in old}
        self._next = int(old[-1].stem) + 1 if old else 0
        self._index: IO[bytes] | None = None
        self._pictures: IO[bytes] | None = None
        self._path = folder

    def write(self, decision: Decision, picture: bytes | None) -> None:
        """Append one decision. Raises OSError, and InputError for a picture that is larger than the ring."""
        body = decision.as_json()
        body["media_ns"] = round(decision.media_ms * 1e6)
        if self._index is None or self._sizes[self._path] >= min(self._limit // SEGMENTS, SEGMENT_BYTES):
            self._begin()
        assert self._index is not None
        assert self._pictures is not None
        if picture is not None:
            body["picture"] = {"at": self._pictures.tell(), "bytes": len(picture), "crc32": crc32(picture)}
        line = json.dumps(body, separators=(",", ":")).encode() + b"\n"
        self._make_room(len(line) + len(picture or b""))
        # the picture first: a line that is whole must never name a picture that is not
        if picture is not None:
            self._pictures.write(picture)
            self._pictures.flush()
        self._index.write(line)
        self._index.flush()
        self._sizes[self._path] += len(line) + len(picture or b"")

    def _begin(self) -> None:
        self.close()
        self._path = self._folder / f"{self._next:06d}.jsonl"
        self._next += 1
        self._pictures = self._path.with_suffix(self._suffix).open("xb")
        self._index = self._path.open("xb")
        self._sizes[self._path] = 0

    def _make_room(self, more_bytes: int) -> None:
        while sum(self._sizes.values()) + more_bytes > self._limit:
            oldest = next(iter(self._sizes))  # a dict keeps the order in which segments were begun
            if oldest == self._path:
                raise InputError(f"a picture of {more_bytes / 1e6:.1f} MB does not fit: give a larger --record-mb")
            pictures_of(oldest).unlink()
            oldest.unlink(missing_ok=True)
            del self._sizes[oldest]

    def close(self) -> None:
        """Sync the segment to the disk and close it. What does not fit on a full disk is lost."""
        # the pictures first, as in `write`
        for stream in (self._pictures, self._index):
            if stream is not None:
                with suppress(OSError):
                    stream.flush()
                    os.fsync(stream.fileno())
                with suppress(OSError):
                    stream.close()
        if self._index is not None:
            with suppress(OSError):
                fsync_path(self._folder)
        self._pictures = self._index = None
