"""Capture what C libraries write to file descriptor 2 during a call, and lose nothing that others write there."""

from __future__ import annotations

import atexit
import fcntl
import mmap
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

FREE_BYTES = 1 << 20
"""What was read is given back to the system in pieces of this size."""


def _memory() -> int:
    """Return a file in memory that appends every write, so that no thread writes over the line of another."""
    memory = os.memfd_create("stderr")
    fcntl.fcntl(memory, fcntl.F_SETFL, fcntl.fcntl(memory, fcntl.F_GETFL) | os.O_APPEND)
    return memory


class StderrCapture:
    """Captures descriptor 2 during a `with`, and passes on the lines that do not match `wanted`.

    A process captures in one thread at a time. Another thread may finish a line after the `with`; such a line is passed
    on after the next `with`, or at the end of the process.
    """

    def __init__(self, wanted: re.Pattern[str]) -> None:
        self._wanted = wanted
        self._lock = Lock()
        self._memory: int | None = None
        self._read = self._freed = 0

    @contextmanager
    def __call__(self) -> Iterator[list[str]]:
        """Yield a list that holds the wanted lines once the `with` has ended."""
        lines: list[str] = []
        with self._lock:
            if self._memory is None:
                self._memory = _memory()
                atexit.register(self._drain, at_exit=True)
            try:
                stderr = os.dup(2)
            except OSError:  # a daemon may have closed it
                stderr = os.open(os.devnull, os.O_WRONLY)
            # the descriptor and not sys.stderr: C libraries know nothing of Python's object
            os.dup2(self._memory, 2)
            try:
                yield lines
            finally:
                os.dup2(stderr, 2)
                os.close(stderr)
                lines += self._drain()

    def _drain(self, *, at_exit: bool = False) -> list[str]:
        """Return the wanted lines that came since the last time, and write the others to stderr."""
        assert self._memory is not None
        size = os.fstat(self._memory).st_size
        written = os.pread(self._memory, size - self._read, self._read)
        # another thread's line that crosses a page is seen half written: it stays until it ends
        whole = written if at_exit else written[: written.rfind(b"\n") + 1]
        if not whole:
            return []
        lines = whole.splitlines(keepends=True)
        self._read += len(whole)
        # it only grows, since every write appends; a new file would lose the line of a thread that is just writing
        while self._read - self._freed >= FREE_BYTES:
            with mmap.mmap(self._memory, FREE_BYTES, offset=self._freed) as read:
                read.madvise(mmap.MADV_REMOVE)
            self._freed += FREE_BYTES
        wanted = [self._wanted.match(line.decode("utf-8", "replace")) is not None for line in lines]
        if others := b"".join(line for line, ours in zip(lines, wanted, strict=True) if not ours):
            os.write(2, others)
        return [line.decode("utf-8", "replace") for line, ours in zip(lines, wanted, strict=True) if ours]
