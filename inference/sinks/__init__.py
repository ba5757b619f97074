"""Sinks: one file each. Each runs in its own thread behind a queue, so a slow or dead one never delays a decision."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from queue import Empty, Full, Queue
from threading import Thread

import numpy as np

from inference.decision import Decision
from inference.preprocess import Bytes

HANGS_S = 30.0
"""A sink of a recorded source that takes nothing for so long is given up."""


class Sink(ABC):
    """Takes decisions. All of it is called from the sink's own thread alone."""

    name: str = "sink"
    needs_picture: bool = False
    depth: int = 256
    """How many decisions may wait."""

    @abstractmethod
    def write(self, decision: Decision, frame_bgr: Bytes | None) -> None:
        """Take one decision; frame_bgr: the upright picture, uint8 (H, W, 3), valid during the call. May raise."""

    @abstractmethod
    def close(self) -> None:
        """Finish: flush, rename. Called once, also after a failed write."""


class Outlet:
    """A sink behind its queue. Pictures are copied into a pool of `depth` buffers that go round."""

    def __init__(self, sink: Sink, *, lossless: bool) -> None:
        self.sink = sink
        self.written = 0
        self.dropped = 0
        self.error: str | None = None
        self._lossless = lossless
        self._queue: Queue[tuple[Decision, Bytes | None] | None] = Queue(sink.depth)
        self._spare: Queue[Bytes | None] = Queue()
        for _ in range(sink.depth if sink.needs_picture else 0):
            self._spare.put(None)
        self._thread = Thread(target=self._drain, name=f"sink-{sink.name}", daemon=True)
        self._thread.start()

    def post(self, decision: Decision, frame_bgr: Bytes | None) -> None:
        """Hand over one decision. A full queue drops it and counts; with `lossless` (recorded sources) it waits."""
        if self.error is not None:
            self.dropped += 1
            return
        picture = None
        try:
            if self.sink.needs_picture and frame_bgr is not None:
                picture = self._copy(frame_bgr)
            self._queue.put((decision, picture), self._lossless, HANGS_S)
        except (Empty, Full):
            self.dropped += 1
            if picture is not None:
                self._spare.put(picture)
            if self._lossless:
                self._die(TimeoutError(f"it took nothing for {HANGS_S:g} s"))

    def _copy(self, frame_bgr: Bytes) -> Bytes:
        buffer = self._spare.get(self._lossless, HANGS_S)
        if buffer is None or buffer.shape != frame_bgr.shape:
            return frame_bgr.copy()
        np.copyto(buffer, frame_bgr)
        return buffer

    def _drain(self) -> None:
        while (item := self._queue.get()) is not None:
            decision, picture = item
            if self.error is None:
                try:
                    self.sink.write(decision, picture)
                    self.written += 1
                except Exception as error:  # whatever a sink dies of, the decisions go on
                    self.dropped += 1
                    self._die(error)
            else:
                self.dropped += 1
            if picture is not None:
                self._spare.put(picture)

    def _die(self, error: Exception) -> None:
        self.error = " ".join(f"{type(error).__name__}: {error}".split())
        print(f"the sink {self.sink.name} is off: {self.error}", file=sys.stderr)

    def close(self, timeout_s: float = 30.0) -> None:
        """Let the sink finish what waits, at most `timeout_s`; a sink that hangs is left behind."""
        try:
            self._queue.put(None, timeout=timeout_s)
        except Full:
            self.error = self.error or "it hangs"
            return
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            self.error = self.error or "it hangs"
            return
        try:
            self.sink.close()
        except Exception as error:  # see _drain
            self.error = " ".join(f"{type(error).__name__}: {error}".split())
