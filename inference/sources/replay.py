"""Plays a recording, `replay://DIR`: the frames, ids, times and drops that `--record DIR` wrote.

It plays as fast as it is read; with --realtime at its own pace, with no pause longer than a second.
"""

from __future__ import annotations

import logging
from pathlib import Path
from time import monotonic_ns
from typing import Any

from core.data.recording import FACTS, RecordedDecision, configuration_in, read_decisions, read_facts
from core.errors import InputError
from core.geometry.frame import Frame, parse_zones
from core.geometry.preprocess import decode
from inference.capture.base import EndOfStream, Source

log = logging.getLogger(__name__)
SCHEMES = ("replay",)


def open_source(uri: str) -> ReplaySource:
    """Open the recording in a folder. Raises InputError when it is none."""
    folder = Path(uri.split("://", 1)[1])
    facts = read_facts(folder)
    try:
        zones = parse_zones(facts["zones"])
    except InputError as error:
        raise InputError(f"{folder / FACTS}: {error}") from None
    return ReplaySource(folder, facts, zones or None)


class ReplaySource(Source):
    """The frames of a recording that are whole, as fast as they are read."""

    upright = True

    def __init__(self, folder: Path, facts: dict[str, Any], zones: Any) -> None:
        self.fps, self.zones = float(facts["fps"]), zones
        self.sequence = bool(facts.get("sequence", True))
        self.synthetic = bool(facts.get("synthetic", False))
        self.recorded = configuration_in(folder, facts)
        self._folder = folder
        self._lines = read_decisions(folder)
        self._played = self._skipped = 0
        self._first_skipped: str | None = None

    def read(self, timeout_s: float) -> Frame | None:
        """Return the next frame. Raises EndOfStream after the last, InputError when there was none."""
        # one generator for the whole recording: each call goes on where the last one stopped
        for line in self._lines:
            if isinstance(line, RecordedDecision):
                if line.picture is None:  # a decision that there was no frame
                    continue
                if (frame := _frame_of(line)) is not None:
                    self._played += 1
                    return frame
            self._skip(f"{line.index}, line {line.number}")
        if not self._played:
            raise InputError(f"{self._folder} holds no whole frame: record again")
        raise EndOfStream

    def _skip(self, where: str) -> None:
        """Count a frame that cannot be played; warn only of the first one."""
        self._skipped += 1
        if self._first_skipped is None:
            self._first_skipped = where
            log.warning(f"{where}: its frame is damaged and skipped; the summary counts all of these")

    def report(self) -> dict[str, Any]:
        """Return how many frames were played and how many skipped, and the line of the first skipped one."""
        return {"frames": self._played, "skipped": self._skipped, "first_skipped": self._first_skipped}

    def close(self) -> None:
        """Close the files."""
        self._lines.close()  # type: ignore[attr-defined]


def _frame_of(line: RecordedDecision) -> Frame | None:
    """Return a line's frame, None where it cannot be decoded. Its age counts from now."""
    body = line.body
    image = decode(line.picture or b"")
    try:
        truth = {name: zone.get("truth") for name, zone in body["zones"].items() if "truth" in zone}
        numbers = media_ns, frame_id, drops = int(body["media_ns"]), int(body["frame"]), int(body["drops"])
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError):
        return None
    # numbers of a damaged line may not fit the 64 bits in which times and ids are handled
    known = all(label is None or isinstance(label, str) for label in truth.values())
    if image is None or not known or max(map(abs, numbers)) >= 1 << 63:
        return None
    return Frame(frame_id, monotonic_ns(), image, media_ns, truth, str(body.get("file", "")), drops)
