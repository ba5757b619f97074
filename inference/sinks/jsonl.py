"""Writes decisions.jsonl: one line a decision, as it is made. decision.schema.json describes a line."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

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
    """Writes lines as `Decision.as_json` makes them; each is flushed, so that a reader can follow the file."""

    name = "decisions.jsonl"
    depth = 1024

    def __init__(self, path: Path, *, append: bool = False) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._stream = path.open("a" if append else "w", encoding="utf-8")

    def write(self, decision: Decision, frame_bgr: Bytes | None) -> None:
        """Write one line."""
        self._stream.write(json.dumps(decision.as_json(), separators=(",", ":")) + "\n")
        self._stream.flush()

    def close(self) -> None:
        """Close the file."""
        self._stream.close()
