"""SIGTERM and Ctrl-C during training: they take effect between two steps, after the state is saved."""

from __future__ import annotations

import signal
from types import FrameType


class Interrupt:
    """A context that records the first SIGTERM or Ctrl-C; a second one has its usual effect."""

    def __init__(self) -> None:
        self.signal_number: int | None = None
        """The number of the signal that arrived; None before."""
        self._before: dict[int, object] = {}

    def __enter__(self) -> Interrupt:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.signal_number = number
        # the former handlers are back at once, so that a second Ctrl-C ends a process that does not reach a step's end
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
