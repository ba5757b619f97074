"""SIGTERM and Ctrl-C, heard between two steps: a run is saved before it stops."""

from __future__ import annotations

import signal
from types import FrameType


class Interrupt:
    """Listens while it is entered; a second signal acts as if nobody listened."""

    def __init__(self) -> None:
        self.asked: int | None = None
        """The signal that came."""
        self._before: dict[int, object] = {}

    def __enter__(self) -> Interrupt:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self.asked = number
        for one, handler in self._before.items():
            signal.signal(one, handler)  # type: ignore[arg-type]
