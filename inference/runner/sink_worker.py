"""Runs a sink in a thread of its own, behind a queue, so that a slow or dead sink never delays a decision."""

from __future__ import annotations

import logging
from contextlib import suppress
from queue import Empty, Full, LifoQueue, Queue
from threading import Thread

import numpy as np

from core.geometry.frame import Bytes
from core.redact import public_text
from inference.frame.decision import Decision, SinkStatus
from inference.sinks import Sink

log = logging.getLogger(__name__)

HANGS_S = 30.0
"""A sink of a recorded source that takes nothing for this long is turned off."""


class SinkWorker:
    """Runs a sink behind a queue. Pictures are copied into a pool of buffers, which are used again."""

    def __init__(self, sink: Sink, *, waits: bool) -> None:
        """waits: `submit` waits for a slow sink, as a recorded source can; a live one cannot."""
        self.sink = sink
        self.written = 0
        self.dropped = 0
        self.error: str | None = None
        self._waits = waits and not sink.newest_only
        self._queue: Queue[tuple[Decision, Bytes | None] | None] = Queue(sink.queue_size)
        # the pool of picture buffers; None stands for one that is not allocated yet. Last in, first out: a buffer that
        # was used is taken before a new one is allocated
        self._spare: Queue[Bytes | None] = LifoQueue()
        for _ in range((sink.max_pictures or sink.queue_size) if sink.needs_picture else 0):
            self._spare.put(None)
        self._thread = Thread(target=self._drain, name=f"sink-{sink.name}", daemon=True)
        self._thread.start()

    # called from the runner's thread; everything that can be slow happens in `_drain`
    def submit(self, decision: Decision, frame_bgr: Bytes | None) -> None:
        """Put one decision into the queue. A full queue drops one and counts it; with `waits`, this waits for room."""
        if self.error is not None:
            self.dropped += 1
            return
        picture = None
        try:
            if frame_bgr is not None and self.sink.wants_picture():
                picture = self._copy(frame_bgr)
            if self.sink.newest_only and self._queue.full():
                self._drop_oldest()
            # with `waits` it blocks for up to HANGS_S; without it a full queue raises Full at once
            self._queue.put((decision, picture), self._waits, HANGS_S)
        except (Empty, Full):  # no buffer is spare, or the queue has no room
            self.dropped += 1
            self._recycle(picture)
            if self._waits:  # it waited the whole time-out, which a live source never does
                self._turn_off(TimeoutError(f"it took nothing for {HANGS_S:g} s"))

    @property
    def status(self) -> SinkStatus:
        """The counts so far."""
        return SinkStatus(self.sink.name, self.written, self.dropped, self.error)

    def _copy(self, frame_bgr: Bytes) -> Bytes | None:
        try:
            buffer = self._spare.get(self._waits, HANGS_S)
        except Empty:
            if self.sink.newest_only:
                return None  # the decision goes without its picture
            raise
        # the pool fills as it is used: an entry of another size is replaced, so it also follows a camera that changes
        if buffer is None or buffer.shape != frame_bgr.shape:
            return frame_bgr.copy()
        np.copyto(buffer, frame_bgr)
        return buffer

    def _drop_oldest(self) -> None:
        with suppress(Empty):  # the sink has emptied the queue meanwhile: there is room
            item = self._queue.get_nowait()
            self.dropped += 1
            self._recycle(item[1] if item else None)

    def _recycle(self, picture: Bytes | None) -> None:
        if picture is not None:
            self._spare.put(picture)

    def _drain(self) -> None:
        """Write each decision until `close` sends None. Once the sink is off, drop them: `submit` must not wait."""
        while (item := self._queue.get()) is not None:
            decision, picture = item
            if self.error is None:
                try:
                    self.sink.write(decision, picture)
                    self.written += 1
                except Exception as error:  # any error of a sink ends that sink alone
                    self.dropped += 1
                    self._turn_off(error)
            else:
                self.dropped += 1
            self._recycle(picture)

    def _turn_off(self, error: Exception) -> None:
        self.error = _sentence(error)
        log.error(f"the sink {self.sink.name} is off: {self.error}")
        log.debug("where it failed:", exc_info=error)

    def close(self, timeout_s: float = 30.0) -> None:
        """Let the sink finish what waits in its queue, at most `timeout_s`; a sink that hangs is left behind."""
        try:
            # behind all that waits, so that the sink writes it first
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
            self.error = _sentence(error)


def _sentence(error: Exception) -> str:
    return public_text(" ".join(f"{type(error).__name__}: {error}".split()))
