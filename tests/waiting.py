"""Waits for what must happen, instead of for a time in which it should: machines differ in their pace."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

Found = TypeVar("Found")

LONGEST_S = 120.0
"""The longest wait for one event. Only a fault, or a machine that hardly moves, takes as long."""


def wait_until(happened: Callable[[], Found], awaited: str, details: Callable[[], object] = lambda: "") -> Found:
    """Return what `happened` returns once it is true; fail with a sentence that names what was waited for."""
    until = time.monotonic() + LONGEST_S
    while not (found := happened()):
        if time.monotonic() > until:
            pytest.fail(f"no {awaited} within {LONGEST_S:g} s: a fault, or a machine that is too slow. {details()}")
        time.sleep(0.01)
    return found


def has_grown_to(path, size: int) -> bool:
    """Return whether a file is there and has at least `size` bytes."""
    return path.exists() and path.stat().st_size >= size


def is_alive(pid: int) -> bool:
    """Return whether a process runs: one that has ended and waits to be reaped (state Z or X) does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False
