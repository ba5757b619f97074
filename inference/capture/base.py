"""What a camera source is, and how it ends."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from core.geometry.frame import Frame, Relative


class EndOfStream(Exception):
    """The source has no more frames."""


class SourceLost(Exception):
    """The camera is gone: one sentence why. Open it again."""


class SourceRefused(SourceLost):
    """The camera answers, and refuses us: before its first frame the command is wrong."""


class NotReopenable(Exception):
    """The source is no camera: there is nothing to connect to again."""


class Source(ABC):
    """An open source. One thread reads it and closes it."""

    live: bool = False
    """Frames come whether they are read or not, so late ones are dropped."""
    sequence: bool = True
    """Neighbouring frames show the same scene: False for a folder of unrelated pictures."""
    synthetic: bool = False
    fps: float = 30.0
    """The nominal rate; time-outs are counted in its intervals."""
    zones: Mapping[str, Relative] | None = None
    """The zones its truth speaks of, where it has its own."""

    @abstractmethod
    def read(self, timeout_s: float) -> Frame | None:
        """Return the next frame, or None when none came in time. Raises EndOfStream or SourceLost."""

    def reopen(self) -> None:
        """Connect again after SourceLost or a hang; frame ids go on. Raises NotReopenable where that cannot be."""
        raise NotReopenable

    def report(self) -> dict[str, Any]:
        """Return what summary.json says of the source beside its frames: what was left out, and why."""
        return {}

    def close(self) -> None:  # noqa: B027, a source may hold nothing
        """Let go of the camera or the file."""
