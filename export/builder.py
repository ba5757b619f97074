"""The bundle builder: it writes the files of a bundle, and collects their measurements and gates."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from core.bundle import golden_file
from core.bundle.contract import Bundle, Probs
from core.bundle.parity_file import ParityResult
from core.data.pack import Pack
from export.verify.parity import compare_with_torch, make_gate, run_onnx

SPLITS = ("val", "test")


@dataclass
class BundleBuilder:
    """A bundle that is being built, with the results of its files so far."""

    bundle: Bundle
    pack: Pack
    """The pack's rows at the bundle's input size."""
    rows: dict[str, NDArray[np.int64]]
    reference: dict[str, Probs]
    """{split: the probabilities that torch gives for its rows, float32 (n, classes)}."""
    golden: golden_file.Golden
    latency_only: bool
    results: list[ParityResult] = field(default_factory=list)

    def evaluate(
        self, name: str, run: Callable[[NDArray[np.int64]], Probs], splits: Iterable[str] = SPLITS
    ) -> ParityResult:
        """Measure one file in one runtime on these splits; return the result of the first, val."""
        measured = []
        for split in splits:
            rows = self.rows[split]
            labels = self.pack.labels_n[rows]
            measured.append(compare_with_torch(name, split, rows, run(rows), self.reference[split], labels))
        self.results += measured
        return measured[0]

    def add_gate(
        self, precision: str, results: list[ParityResult], facts: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Record and return the gate of a precision: the checks of its results on val, and `facts` about it."""
        gate = {**make_gate(precision, results), **(facts or {})}
        # at a size that it was not trained at, a network may well be wrong: only its speed is of use
        if self.latency_only:
            gate |= {"passed": True, "checks": [], "note": "latency only: not the size it was trained at"}
        self.set_gate(precision, gate)
        return gate

    def set_gate(self, precision: str, gate: dict[str, Any]) -> None:
        """Set the gate of a precision, which replaces an earlier one."""
        self.bundle = replace(self.bundle, gates={**self.bundle.gates, precision: gate})

    def add_golden(self, precision: str, model: onnx.ModelProto) -> None:
        """Record the probabilities of the golden regions in a precision, computed as the file says, nothing fused."""
        regions = np.arange(len(self.golden.geometry_rhwc))
        probs = run_onnx(model, self.golden.geometry_rhwc, regions, exact=True)
        self.golden = replace(self.golden, probs={**self.golden.probs, precision: probs})

    def write(self, name: str, model: onnx.ModelProto) -> None:
        """Write a graph into the bundle's folder; the same graph gives the same bytes."""
        (self.bundle.path / name).write_bytes(model.SerializeToString(deterministic=True))

    def bind(self) -> None:
        """Hash the files in the bundle's folder, and write bundle.json, which binds them: backends open no others."""
        bundle = self.bundle
        # bundle.json cannot hold its own hash; it has a digest inside
        files = {file for file in bundle.path.iterdir() if file.is_file()} - {bundle.file}
        self.bundle = bundle.with_files([file.name for file in files])
        self.bundle.save()
