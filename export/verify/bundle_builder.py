"""A bundle in the making, and what was measured of it so far."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from core.bundle import golden_file
from core.bundle.contract import Bundle
from core.data.pack import Pack
from export.verify.parity import ParityResult, Probs, gate, measure, run_onnx

SPLITS = ("val", "test")


@dataclass
class BundleBuilder:
    """A bundle in the making: what was measured so far."""

    bundle: Bundle
    pack: Pack
    """At the bundle's size."""
    rows: dict[str, NDArray[np.int64]]
    reference: dict[str, Probs]
    """Torch's probabilities of each split."""
    golden: golden_file.Golden
    latency_only: bool
    results: list[ParityResult] = field(default_factory=list)

    def evaluate(
        self, name: str, run: Callable[[NDArray[np.int64]], Probs], splits: Iterable[str] = SPLITS
    ) -> ParityResult:
        """Measure one file in one runtime on splits, val first; return the result on val."""
        measured = []
        for split in splits:
            rows = self.rows[split]
            labels = self.pack.labels_n[rows]
            measured.append(measure(name, split, rows, run(rows), self.reference[split], labels))
        self.results += measured
        return measured[0]

    def gate(self, precision: str, results: list[ParityResult], facts: dict[str, Any] | None = None) -> dict[str, Any]:
        """Record the gate of a precision from its results on val, and what else is known of it; return the gate."""
        gates = {**gate(precision, results), **(facts or {})}
        if self.latency_only:
            gates |= {"passed": True, "checks": [], "note": "latency only: not the size it was trained at"}
        self.record(precision, gates)
        return gates

    def record(self, precision: str, gates: dict[str, Any]) -> None:
        """Replace the gate of a precision."""
        self.bundle = replace(self.bundle, gates={**self.bundle.gates, precision: gates})

    def add_golden(self, precision: str, model: onnx.ModelProto) -> None:
        """Record what the golden regions must give in a precision: what the file says as it is written."""
        regions = np.arange(len(self.golden.geometry_rhwc))
        probs = run_onnx(model, self.golden.geometry_rhwc, regions, exact=True)
        self.golden = replace(self.golden, probs={**self.golden.probs, precision: probs})

    def write(self, name: str, model: onnx.ModelProto) -> None:
        """Write a file of the bundle: the same graph gives the same bytes."""
        (self.bundle.path / name).write_bytes(model.SerializeToString(deterministic=True))
