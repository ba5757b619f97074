"""The interface of every source of frames, and the errors that its methods raise."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from core.data.recording import Configuration
from core.geometry.frame import Frame, Relative


class EndOfStream(Exception):
    """The source has no more frames."""


class SourceLost(Exception):
    """The camera is gone and may be opened again. The message is the reason, in one sentence."""


class SourceRefused(SourceLost):
    """The camera answers and refuses access. Before its first frame, that means the command is wrong."""


class NotReopenable(Exception):
    """The source is not a camera, so it cannot be opened again."""


class Source(ABC):
    """An open source of frames. One thread reads it and closes it.

    The source of a camera is a `LiveSource` over a `Reader`, the camera's driver (both in live.py). A recorded source
    implements `read` itself.
    """

    live: bool = False
    """Frames come whether they are read or not, so those that nobody read in time are dropped."""
    sequence: bool = True
    """Neighboring frames show the same scene; False for a folder of unrelated pictures."""
    synthetic: bool = False
    """The frames are drawn; every output says so."""
    fps: float = 30.0
    """The nominal frame rate, which time-outs are derived from."""
    zones: Mapping[str, Relative] | None = None
    """The source's own zones, to which its ground truth belongs; None where it has none."""

    upright: bool = False
    """Its pictures were turned, cropped and mirrored before: those of a recording."""

    recorded: Configuration | None = None
    """What decided the answers when a recording was made; None where the source is none, or an early one."""

    @abstractmethod
    def read(self, timeout_s: float) -> Frame | None:
        """Return the next frame; None where live and none came in time. Raises EndOfStream or SourceLost."""

    def reopen(self) -> None:
        """Connect again after SourceLost or a hang; frame ids continue. Raises NotReopenable for a recorded source."""
        raise NotReopenable

    def report(self) -> dict[str, Any]:
        """Return `source_report` of summary.json: what was left out, and why."""
        return {}

    def close(self) -> None:  # noqa: B027, a source may hold nothing
        """Close the camera or the file."""
