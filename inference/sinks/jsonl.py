"""decisions.jsonl: one line a frame, written as it happens."""

from __future__ import annotations

import json
from pathlib import Path

from inference.decision import Decision
from inference.preprocess import Bytes
from inference.sinks import Sink


class JsonlSink(Sink):
    """Lines as `Decision.as_json` makes them; each is flushed, so that a reader can follow the file."""

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
