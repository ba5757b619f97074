"""Holds signals back while a library runs that would catch what their handlers raise."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_came: list[int] = []
"""The signals that are held back."""


@contextmanager
def holding_signals() -> Iterator[None]:
    """Hold Ctrl-C and SIGTERM back until the end of the block, and deliver them there. A second one kills.

    What a handler raises inside a callback of TensorRT's, or inside torch's export, is caught there: the command would
    go on, or end with another error.
    """

    def hold(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        _came.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # a shell makes its background jobs ignore SIGINT: that stays so
    heeded = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, hold) for number in heeded}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        came = _came.copy()
        _came.clear()
        for held in came:
            signal.raise_signal(held)


def is_signal_held() -> bool:
    """Return whether a signal waits for the end of the block: what runs in it should stop."""
    return bool(_came)
