"""Reads and writes recordings: `--record DIR` writes one, `replay://DIR` plays it.

    recording.json     schema, fps, sequence, synthetic, stamps, zones: what the source was
    camera.json        the zones and the mirror, for --camera; the pictures are upright and cropped already
    000000.mjpeg       whole pictures, one after the other (.png with --record-lossless); any player shows a .mjpeg
    000000.jsonl       a line a decision, as in decisions.jsonl, with media_ns and where its picture lies

A picture is on its way to the disk before its line is, and the line carries its length and checksum: what was killed
in the midst of writing is whole up to its last whole line. Segments make a ring: the oldest goes when room is needed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from zlib import crc32

from core.errors import InputError
from core.files import fsync_path, read_object
from inference.frame.decision import Decision

SCHEMA = 1
FACTS = "recording.json"
SEGMENTS = 8
"""The ring has at least this many segments, so that dropping the oldest loses an eighth of it at most."""
SEGMENT_BYTES = 64_000_000
"""A segment is closed at this size, so that syncing one to the disk does not take long."""
LONGEST_BYTES = 1 << 28
"""A line that names a longer picture is damaged."""
HINT = "give the folder that --record wrote"


@dataclass(frozen=True, slots=True)
class Line:
    """One decision of a recording. picture: the encoded bytes, None where the decision had none."""

    body: dict[str, Any]
    picture: bytes | None


def segments_of(folder: Path) -> list[Path]:
    """Return the index files of the segments, oldest first."""
    return sorted(f for f in folder.glob("*.jsonl") if f.stem.isdigit())


def pictures_of(index: Path) -> Path:
    """Return the file with the pictures of a segment."""
    return next((f for suffix in (".mjpeg", ".png") if (f := index.with_suffix(suffix)).exists()), index)


class SegmentWriter:
    """Appends decisions to the segments of `folder`, which never take more than `limit_bytes` together."""

    def __init__(self, folder: Path, suffix: str, limit_bytes: int) -> None:
        self._folder, self._suffix, self._limit = folder, suffix, limit_bytes
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
            oldest = next(iter(self._sizes))
            if oldest == self._path:
                raise InputError(f"a picture of {more_bytes / 1e6:.1f} MB does not fit: give --record-mb more")
            pictures_of(oldest).unlink()
            oldest.unlink(missing_ok=True)
            del self._sizes[oldest]

    def close(self) -> None:
        """Sync the segment to the disk and close it. What does not fit on a full disk is lost."""
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


def read_facts(folder: Path) -> dict[str, Any]:
    """Return recording.json. Raises InputError naming the folder and what is wrong with it."""
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder: {HINT}")
    if not (folder / FACTS).exists():
        raise InputError(f"{folder} is not a recording (it has no {FACTS}): {HINT}")
    facts = read_object(folder / FACTS, HINT, SCHEMA)
    fps, zones = facts.get("fps"), facts.get("zones")
    if not isinstance(fps, (int, float)) or not 0 < fps < 1e4 or not isinstance(zones, dict):
        raise InputError(f"{folder / FACTS} has no valid fps or zones: {HINT}")
    return facts


def read_lines(folder: Path) -> Iterator[Line]:
    """Yield the whole lines of all segments in order; after a torn line the rest of its segment is left out."""
    for index in segments_of(folder):
        with index.open("rb") as lines, pictures_of(index).open("rb") as pictures:
            for text in lines:
                line = _read_line(text, pictures)
                if line is None:
                    break
                yield line


def _read_line(text: bytes, pictures: IO[bytes]) -> Line | None:
    """Return a line with its picture, None where one of the two is not whole."""
    if not text.endswith(b"\n"):
        return None
    try:
        body = json.loads(text)
        where = body.get("picture")
        if where is None:
            return Line(body, None)
        at, length, checksum = (where[key] for key in ("at", "bytes", "crc32"))
    except (ValueError, RecursionError, AttributeError, TypeError, KeyError):
        return None
    if not (type(at) is type(length) is int and 0 <= at < 1 << 62 and 0 < length <= LONGEST_BYTES):
        return None
    pictures.seek(at)
    data = pictures.read(length)
    return Line(body, data) if len(data) == length and crc32(data) == checksum else None
