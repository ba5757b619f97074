"""False alarms of a recorded drive: regions that were given a class where there was no object."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path

from core.data.recording import ClassifiedRegion
from core.errors import InputError
from training.data.listing import PackOptions, Sample
from training.data.own_camera.frames import CameraFrame
from training.data.splits import shuffle_key

HINT = "give the columns first,last and, where only one region is meant, region"


@dataclass(frozen=True, slots=True)
class FrameRange:
    """Frames of a recording, from the first to the last, in which what was said of a region is false."""

    first: int
    last: int
    region: str = ""
    """Empty: all regions."""

    def __post_init__(self) -> None:
        if not 0 <= self.first <= self.last:
            raise InputError(f"first,last is {self.first},{self.last}: give numbers of frames, 0 <= first <= last")

    def holds(self, number: int, region: str) -> bool:
        """Tell whether a region of a frame is meant."""
        return self.first <= number <= self.last and self.region in ("", region)


def read_ranges(file: Path) -> list[FrameRange]:
    """Return the lines of a CSV first,last[,region]. Raises InputError naming the file and the line."""
    ranges = []
    try:
        # utf-8-sig: spreadsheets write a byte order mark in front
        with file.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            if not {"first", "last"} <= set(reader.fieldnames or ()):
                raise InputError(f"{file} has the columns {reader.fieldnames}: {HINT}")
            for row in reader:
                try:
                    region = (row.get("region") or "").strip()
                    ranges.append(FrameRange(int(row["first"]), int(row["last"]), region))
                except (ValueError, TypeError, InputError) as error:
                    raise InputError(f"{file}, line {reader.line_num}: {error}; {HINT}") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{file} cannot be read as CSV ({error})") from None
    return ranges


def false_alarm_rows(
    frames: Sequence[CameraFrame], classes: Container[str], label: str, most: int, options: PackOptions
) -> tuple[list[Sample], list[str]]:
    """Return up to `most` background rows, each a region that was given a class, of all frames or of the listed ones.

    classes: those of the pack's objects. What is left out is counted in the warnings, which are returned too. Raises
    InputError where a list names no region.
    """
    named = [(frame, region) for frame in frames for region in frame.regions if region.label != label]
    warnings = list[str]()
    if options.false_alarms:
        named, warnings = _listed(named, options.false_alarms)
    alarms = [(frame, region) for frame, region in named if region.label in classes]
    other = Counter(region.label for _, region in named if region.label not in classes)
    warnings += [f"left out: {n} regions that were called {name}, no class of this pack" for name, n in other.items()]
    # shuffled, since neighboring frames repeat one false alarm: the first `most` are then spread over the drive
    alarms.sort(key=lambda pair: shuffle_key(options.seed, "false alarm", pair[0].source, pair[1].name))
    if len(alarms) > most:
        # only of listed ones a person has said that they are false
        kind = "false alarms; --background N takes more" if options.false_alarms else "regions that were given a class"
        warnings.append(f"left out: {len(alarms) - most} of {len(alarms)} {kind}")
    rows = []
    for frame, region in alarms[:most]:
        rows.append(Sample(frame.source, label, frame.group, None, region.rect, unmarked=True))
    return rows, warnings


def _listed(
    named: list[tuple[CameraFrame, ClassifiedRegion]], file: Path
) -> tuple[list[tuple[CameraFrame, ClassifiedRegion]], list[str]]:
    """Return the regions that a CSV lists, and a warning about its lines that list none."""
    ranges = read_ranges(file)
    holds = [[frame_range.holds(frame.number, region.name) for frame, region in named] for frame_range in ranges]
    idle = [number for number, of_range in enumerate(holds, 1) if not any(of_range)]
    if len(idle) == len(ranges):
        raise InputError(f"{file} lists no region that was given a class: number frames as decisions.jsonl does")
    warnings = [f"left out: {len(idle)} ranges of {file} without a class, first number {idle[0]}"] if idle else []
    # `holds` has a row for each range; turned, one for each region
    marks_of = zip(*holds, strict=True)
    return [pair for pair, marks in zip(named, marks_of, strict=True) if any(marks)], warnings
