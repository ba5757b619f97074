"""Sinks: one file each. A sink takes the decisions of a run, some of them with their picture.

The module of a sink has `Options`, a frozen dataclass whose fields are options of `python -m inference run`, and
`open_sink(context, options) -> Sink | None`, which returns None where the options do not request the sink.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path

from core.bundle.contract import Bundle
from core.geometry.camera_config import CameraConfig
from core.geometry.frame import Bytes
from core.plugins import load_usable, names_in
from inference.capture.base import Source
from inference.frame.decision import Decision
from inference.frame.regions import RegionSource

PARTS = ("Options", "open_sink")
"""The parts that the module of each sink has."""


class Sink(ABC):
    """Takes decisions. `wants_picture` is called from the runner's thread, everything else from the sink's own."""

    name: str = "sink"
    needs_picture: bool = False
    queue_size: int = 256
    """The most decisions that may wait in the queue."""
    max_pictures: int | None = None
    """The most of them that may wait with their picture; None: all."""
    newest_only: bool = False
    """Only the newest decisions matter: a full queue drops its oldest one, and even a recorded source does not wait."""

    def wants_picture(self) -> bool:
        """Return whether the next decision should come with its picture, which costs the runner a copy."""
        return self.needs_picture

    @abstractmethod
    def write(self, decision: Decision, frame_bgr: Bytes | None) -> None:
        """Take one decision; frame_bgr: the upright picture, uint8 (H, W, 3), valid during the call. May raise."""

    @abstractmethod
    def close(self) -> None:
        """Finish: flush, rename. Also called after a failed write; a second call does nothing."""


@dataclass(frozen=True, slots=True)
class SinkContext:
    """The run that a sink is opened for."""

    bundle: Bundle
    source: Source
    camera: CameraConfig
    region_source: RegionSource
    stamps: tuple[str, ...]
    restarts: int = 0
    """The number of restarts so far; above 0, files of this run exist and are continued."""


def open_sinks(context: SinkContext, options: Mapping[str, object]) -> list[Sink]:
    """Open the requested sinks. options: those of the command by name, of which each sink takes its own.

    Raises InputError when one cannot be opened; those before it are closed. A plug-in that does not load stops only
    a run that may have requested it.
    """
    sinks: list[Sink] = []
    try:
        modules = load_usable(__name__, names_in(__path__), PARTS, lambda name: _may_be_requested(name, options))
        for module in modules.values():
            own = {item.name: options[item.name] for item in fields(module.Options) if item.name in options}
            sink: Sink | None = module.open_sink(context, module.Options(**own))
            if sink is not None:
                sinks.append(sink)
    except BaseException:  # Ctrl-C too: an open recorder keeps its folder locked
        for sink in sinks:
            sink.close()
        raise
    return sinks


def _may_be_requested(name: str, options: Mapping[str, object]) -> bool:
    """Return whether a path or a text is given for an option of a sink that does not load; its source names them."""
    spec = find_spec(f"{__name__}.{name}")
    text = Path(str(spec and spec.origin)).read_text(encoding="utf-8", errors="replace")
    declared = text.partition("\nclass Options")[2].partition("\n\n\n")[0]
    return any(isinstance(options.get(field), str | Path) for field in re.findall(r"^    (\w+): ", declared, re.M))
