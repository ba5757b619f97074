"""Read a recording of the runner: `--record DIR` writes one, `replay://DIR` plays it, packing cuts background from it.

    recording.json     schema, fps, sequence, synthetic, stamps, zones: what the source was; configuration: what ran
    camera.json        the zones and the mirror, for --camera; the pictures are upright and cropped already
    000000.mjpeg       whole pictures, one after the other (.png with --record-lossless); any player shows a .mjpeg
    000000.jsonl       a line a decision, as in decisions.jsonl, with media_ns and where its picture lies

A picture is written before its line, which carries the picture's length and checksum: a recording whose writer was
killed is whole up to its last whole line. Segments make a ring: the oldest is removed when room is needed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any
from zlib import crc32

from core.codec import from_json
from core.errors import InputError
from core.files import read_object
from core.geometry.frame import Rect

SCHEMA, SCHEMA_WITHOUT_CONFIGURATION = 2, 1
FACTS = "recording.json"
LONGEST_BYTES = 1 << 28
"""A line that names a longer picture is damaged."""
HINT = "give the folder that --record wrote"


@dataclass(frozen=True)
class RecordedDetector:
    """The detector of a recorded run: the name and the hash of its file, and its complete settings."""

    file: str
    sha256: str
    settings: dict[str, object]


@dataclass(frozen=True)
class Configuration:
    """What decided the answers of a recorded run, besides the pictures."""

    arch: str
    bundle: str
    """The digest of bundle.json."""
    detector: RecordedDetector | None
    picture: dict[str, object] | None = None
    """The keys of camera.json that were applied to the recorded pictures; None: not known, in an early recording."""


@dataclass(frozen=True, slots=True)
class RecordedDecision:
    """One decision of a recording. picture: the encoded bytes, None where the decision had none."""

    body: dict[str, Any]
    picture: bytes | None
    index: Path
    """The index file of its segment."""
    number: int
    """Its line there, from 1."""


@dataclass(frozen=True, slots=True)
class DamagedLine:
    """A line of a recording that cannot be read, or whose picture is not as it was written."""

    index: Path
    number: int


@dataclass(frozen=True, slots=True)
class ClassifiedRegion:
    """A region of a decision that was given a class: its state is OK. rect: in pixels of the recorded picture."""

    name: str
    label: str
    rect: Rect


def is_recording(folder: Path) -> bool:
    """Return whether `--record` wrote a folder."""
    return (folder / FACTS).is_file()


def segments_of(folder: Path) -> list[Path]:
    """Return the index files of the segments, oldest first."""
    return sorted(f for f in folder.glob("*.jsonl") if f.stem.isdigit())


def pictures_of(index: Path) -> Path:
    """Return the file with the pictures of a segment."""
    for suffix in (".mjpeg", ".png"):
        if (file := index.with_suffix(suffix)).exists():
            return file
    return index  # its pictures are gone: a file that can be opened, in which no checksum will fit


def read_facts(folder: Path) -> dict[str, Any]:
    """Return recording.json. Raises InputError naming the folder and what is wrong with it."""
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder: {HINT}")
    if not is_recording(folder):
        raise InputError(f"{folder} is not a recording (it has no {FACTS}): {HINT}")
    facts = read_object(folder / FACTS, HINT)
    if facts.get("schema") not in (SCHEMA, SCHEMA_WITHOUT_CONFIGURATION):
        raise InputError(f"{folder / FACTS} has schema {facts.get('schema')!r}, this version reads {SCHEMA}: {HINT}")
    fps, zones = facts.get("fps"), facts.get("zones")
    if not isinstance(fps, (int, float)) or not 0 < fps < 1e4 or not isinstance(zones, dict):
        raise InputError(f"{folder / FACTS} has no valid fps or zones: {HINT}")
    return facts


def configuration_in(folder: Path, facts: dict[str, Any]) -> Configuration | None:
    """Return the configuration in recording.json; None in one of an earlier version. Raises InputError as above."""
    body = facts.get("configuration")
    return None if body is None else from_json(Configuration, body, str(folder / FACTS))


def read_decisions(folder: Path) -> Iterator[RecordedDecision | DamagedLine]:
    """Yield the lines of all segments in order: each names its picture by itself, so those after a damaged one count.

    A process that was killed leaves its last line damaged.
    """
    for index in segments_of(folder):
        with index.open("rb") as lines, pictures_of(index).open("rb") as pictures:
            for number, text in enumerate(lines, 1):
                yield _read_line(text, pictures, index, number) or DamagedLine(index, number)


def read_decision(index: Path, number: int) -> RecordedDecision | None:
    """Return a line of a segment by its number, from 1; None where it or its picture is not whole."""
    with index.open("rb") as lines, pictures_of(index).open("rb") as pictures:
        return _read_line(next(islice(lines, number - 1, None), b""), pictures, index, number)


def _read_line(text: bytes, pictures: IO[bytes], index: Path, number: int) -> RecordedDecision | None:
    """Return a line with its picture, None where one of the two is not whole."""
    if not text.endswith(b"\n"):  # it was being written when the process was killed
        return None
    try:
        body = json.loads(text)
        where = body.get("picture")
        if where is None:
            return RecordedDecision(body, None, index, number)
        offset, length, checksum = (where[key] for key in ("at", "bytes", "crc32"))
    except (ValueError, RecursionError, AttributeError, TypeError, KeyError):
        return None
    # before the seek and the read, which a damaged number would send anywhere
    if not (type(offset) is type(length) is int and 0 <= offset < 1 << 62 and 0 < length <= LONGEST_BYTES):
        return None
    pictures.seek(offset)
    data = pictures.read(length)
    # after a power cut the file may have its length and hold zeros
    whole = len(data) == length and crc32(data) == checksum
    return RecordedDecision(body, data, index, number) if whole else None


def classified_regions(line: RecordedDecision) -> tuple[int, tuple[ClassifiedRegion, ...]]:
    """Return the frame's number, and the regions that were given a class. Raises InputError naming a damaged line."""
    regions = []
    try:
        frame = int(line.body["frame"])
        for name, verdict in line.body["zones"].items():
            if verdict["state"] == "OK":
                x0, y0, x1, y1 = map(int, verdict["rect"])
                regions.append(ClassifiedRegion(name, str(verdict["label"]), (x0, y0, x1, y1)))
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError):
        raise InputError(f"{line.index}, line {line.number}, is not a decision: {HINT}") from None
    return frame, tuple(regions)
