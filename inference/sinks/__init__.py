"""Sinks: one file each.

A module here has `open_sink(drive) -> Sink | None`, None where nobody asked for it.
"""

from __future__ import annotations

import argparse
import importlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from core.bundle.contract import Bundle
from core.geometry.camera_config import Camera
from core.geometry.frame import Bytes
from core.plugins import names_in
from inference.capture.base import Source
from inference.frame.decision import Decision
from inference.frame.regions import RegionSource


class SinkStatus(Protocol):
    """What a sink may read of any sink of the drive: how much it took and what it failed of."""

    sink: Sink
    written: int
    dropped: int
    error: str | None


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
    outlets: Sequence[SinkStatus] = ()
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


@dataclass(frozen=True, slots=True)
class Drive:
    """What a sink may know of the drive it is opened for."""

    options: argparse.Namespace
    bundle: Bundle
    source: Source
    camera: Camera
    regions: RegionSource
    stamps: tuple[str, ...]
    restarts: int = 0
    """How often the worker was started again: over 0, files of this drive are there and are gone on with."""


def open_sinks(drive: Drive) -> list[Sink]:
    """Open the sinks that were asked for. Raises InputError when one cannot be opened; those before it are closed."""
    sinks: list[Sink] = []
    try:
        for name in names_in(__path__):
            sink: Sink | None = importlib.import_module(f"{__name__}.{name}").open_sink(drive)
            if sink is not None:
                sinks.append(sink)
    except BaseException:
        for sink in sinks:
            sink.close()
        raise
    return sinks
