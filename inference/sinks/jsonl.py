"""Writes decisions.jsonl: one line a decision, as it is made. decision.schema.json describes a line."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from dataclasses import dataclass
from pathlib import Path

from core.errors import InputError
from core.geometry.frame import Bytes
from inference.frame.decision import Decision
from inference.sinks import Sink, SinkContext


@dataclass(frozen=True)
class Options:
    """The place of decisions.jsonl."""

    out: Path | None = None
    """The folder of the run; None: nothing is written."""


def open_sink(context: SinkContext, options: Options) -> Sink | None:
    """Open decisions.jsonl in --out."""
    if options.out is None:
        return None
    return JsonlSink(options.out / "decisions.jsonl", append=context.restarts > 0)


class JsonlSink(Sink):
    """Writes lines as `Decision.as_json` makes them; each is written at once, so that a reader can follow the file.

    Only one process may write a file.
    """

    name = "decisions.jsonl"
    queue_size = 1024

    def __init__(self, path: Path, *, append: bool = False) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        # unbuffered: a worker that is killed has lost no line; appending: the supervisor may write between two workers
        self._stream = path.open("ab", buffering=0)
        try:
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._stream.close()
            raise InputError(f"another runner writes {path}: give --out another folder") from None
        # only under the lock, or the file of a runner that still writes would be emptied; a pipe has no length
        if not append and path.is_file():
            self._stream.truncate(0)

    def write(self, decision: Decision, frame_bgr: Bytes | None) -> None:
        """Write one line, whole or not at all. Raises OSError where it does not fit."""
        line = json.dumps(decision.as_json(), separators=(",", ":")).encode() + b"\n"
        before = os.fstat(self._stream.fileno()).st_size
        written = self._stream.write(line)
        if written < len(line):  # the first bytes still fitted on the disk
            self._stream.truncate(before)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self) -> None:
        """Close the file."""
        self._stream.close()
