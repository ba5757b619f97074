"""A bundle in the making, and what was measured of it so far."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from core.bundle import golden_file
from core.bundle.contract import Bundle
from core.data.pack import Pack
from export.verify.parity import Probs, Rung, gate, measure, run_onnx

SPLITS = ("val", "test")


@dataclass
class Assembly:
    """A bundle in the making: what was measured so far."""

    bundle: Bundle
    pack: Pack
    """At the bundle's size."""
    rows: dict[str, NDArray[np.int64]]
    reference: dict[str, Probs]
    """Torch's probabilities of each split."""
    golden: golden_file.Golden
    rungs: list[Rung]
    latency_only: bool

    def climb(self, name: str, run: Callable[[NDArray[np.int64]], Probs], splits: Iterable[str] = SPLITS) -> Rung:
        """Measure one file in one runtime on splits, val first; return the rung on val."""
        rows_of = {split: self.rows[split] for split in splits}
        climbed = [
            measure(name, split, rows, run(rows), self.reference[split], self.pack.labels_n[rows])
            for split, rows in rows_of.items()
        ]
        self.rungs += climbed
        return climbed[0]

    def judge(self, precision: str, rungs: list[Rung], facts: dict[str, Any] | None = None) -> dict[str, Any]:
        """Record the gate of a precision from its rungs on val, and what else is known of it; return the gate."""
        judged = {**gate(precision, rungs), **(facts or {})}
        if self.latency_only:
            judged |= {"passed": True, "checks": [], "note": "latency only: not the size it was trained at"}
        self.record(precision, judged)
        return judged

    def record(self, precision: str, judged: dict[str, Any]) -> None:
        """Write down what a precision was judged to be, in place of what stood there."""
        self.bundle = replace(self.bundle, gates={**self.bundle.gates, precision: judged})

    def expect(self, precision: str, model: onnx.ModelProto) -> None:
        """Record what the golden regions must give in a precision: what the file says as it is written."""
        regions = np.arange(len(self.golden.geometry_rhwc))
        probs = run_onnx(model, self.golden.geometry_rhwc, regions, exact=True)
        self.golden = replace(self.golden, probs={**self.golden.probs, precision: probs})

    def write(self, name: str, model: onnx.ModelProto) -> None:
        """Write a file of the bundle: the same graph gives the same bytes."""
        (self.bundle.path / name).write_bytes(model.SerializeToString(deterministic=True))
