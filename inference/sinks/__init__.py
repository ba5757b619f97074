"""Sinks: one file each. Each runs in its own thread behind a queue, so a slow or dead one never delays a decision.

A module here has `open_sink(drive) -> Sink | None`, None where nobody asked for it; a name that begins with an
underscore is no sink.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, Full, LifoQueue, Queue
from threading import Thread
from typing import TYPE_CHECKING

import numpy as np

from inference.decision import Decision
from inference.preprocess import Bytes

if TYPE_CHECKING:
    from inference.boxes import Boxes
    from inference.camera import Camera
    from inference.contract import Bundle
    from inference.regions import Zones
    from inference.sources import Source

HANGS_S = 30.0
"""A sink of a recorded source that takes nothing for so long is given up."""


class Sink(ABC):
    """Takes decisions. All of it is called from the sink's own thread, but `wants_picture`: from the runner's."""

    name: str = "sink"
    needs_picture: bool = False
    depth: int = 256
    """How many decisions may wait."""
    pictures: int | None = None
    """How many of them may wait with their picture; None: all."""
    newest: bool = False
    """Only what is newest matters: the oldest that waits gives way, and no source, not even a file, waits for it."""
    outlets: Sequence[Outlet] = ()
    """All sinks of the drive, for one that tells people of the others' drops."""

    def wants_picture(self) -> bool:
        """Return whether the next decision should come with its picture: each costs the runner a copy."""
        return self.needs_picture

    @abstractmethod
    def write(self, decision: Decision, frame_bgr: Bytes | None) -> None:
        """Take one decision; frame_bgr: the upright picture, uint8 (H, W, 3), valid during the call. May raise."""

    @abstractmethod
    def close(self) -> None:
        """Finish: flush, rename. Called once, also after a failed write."""


class Outlet:
    """A sink behind its queue. Pictures are copied into a pool of buffers that go round."""

    def __init__(self, sink: Sink, *, lossless: bool) -> None:
        self.sink = sink
        self.written = 0
        self.dropped = 0
        self.error: str | None = None
        self._lossless = lossless and not sink.newest
        self._queue: Queue[tuple[Decision, Bytes | None] | None] = Queue(sink.depth)
        # last in, first out: only as many buffers are ever made as are in use at once
        self._spare: Queue[Bytes | None] = LifoQueue()
        for _ in range((sink.pictures or sink.depth) if sink.needs_picture else 0):
            self._spare.put(None)
        self._thread = Thread(target=self._drain, name=f"sink-{sink.name}", daemon=True)
        self._thread.start()

    def post(self, decision: Decision, frame_bgr: Bytes | None) -> None:
        """Hand over one decision. A full queue drops one and counts it; with `lossless` (recorded sources) it waits."""
        if self.error is not None:
            self.dropped += 1
            return
        picture = None
        try:
            if frame_bgr is not None and self.sink.wants_picture():
                picture = self._copy(frame_bgr)
            if self.sink.newest and self._queue.full():
                self._give_way()
            self._queue.put((decision, picture), self._lossless, HANGS_S)
        except (Empty, Full):
            self.dropped += 1
            self._take_back(picture)
            if self._lossless:
                self._die(TimeoutError(f"it took nothing for {HANGS_S:g} s"))

    def _copy(self, frame_bgr: Bytes) -> Bytes | None:
        try:
            buffer = self._spare.get(self._lossless, HANGS_S)
        except Empty:
            if self.sink.newest:
                return None  # the numbers go without their picture
            raise
        if buffer is None or buffer.shape != frame_bgr.shape:
            return frame_bgr.copy()
        np.copyto(buffer, frame_bgr)
        return buffer

    def _give_way(self) -> None:
        with suppress(Empty):  # the sink took one just now: there is room
            item = self._queue.get_nowait()
            self.dropped += 1
            self._take_back(item[1] if item else None)

    def _take_back(self, picture: Bytes | None) -> None:
        if picture is not None:
            self._spare.put(picture)

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
            self._take_back(picture)

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


@dataclass(frozen=True, slots=True)
class Drive:
    """What a sink may know of the drive it is opened for."""

    options: argparse.Namespace
    bundle: Bundle
    source: Source
    camera: Camera
    zones: Zones | Boxes
    stamps: tuple[str, ...]
    restarts: int = 0
    """How often the worker was started again: over 0, files of this drive are there and are gone on with."""


def names() -> list[str]:
    """Return the sinks there are, by file name."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


def open_sinks(drive: Drive) -> list[Outlet]:
    """Open the sinks that were asked for, each behind its queue. Raises InputError when one cannot be opened."""
    outlets: list[Outlet] = []
    try:
        for name in names():
            sink: Sink | None = importlib.import_module(f"{__name__}.{name}").open_sink(drive)
            if sink is not None:
                outlets.append(Outlet(sink, lossless=not drive.source.live))
    except BaseException:
        for outlet in outlets:
            outlet.close()
        raise
    for outlet in outlets:
        outlet.sink.outlets = outlets
    return outlets
