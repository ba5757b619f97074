"""What training and export left in the run beside the bundles: learning curves, the precision ladder, the manifests."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

from benchmarks.measure.candidates import read_manifests
from core.bundle.contract import HINT, Bundle
from core.errors import InputError
from core.files import read_object

RUNG = {
    "name", "split", "rows", "max_dprob", "p99_dprob", "top1_agreement", "accuracy", "accuracy_loss", "flipped"
}  # fmt: skip
"""What the report shows of a rung of parity.json."""
MANIFEST: dict[str, Any] = {
    "precision": "", "runtime": "", "version": "", "target": "", "state": "built", "proved_on": None,
    "engine_bytes": None, "build_seconds": None, "onnx_sha256": "",
}  # fmt: skip
"""What the report shows of a manifest, where one lacks it."""
POINTS = 400
"""A learning curve is thinned to about so many epochs."""


def gather_origins(bundles: dict[str, Bundle]) -> dict[str, Any]:
    """Return the parts of results.json that were written by others; what is not there is left out."""
    learning = {arch: read_history(bundle.path.parent / "history.csv") for arch, bundle in bundles.items()}
    ladder = {arch: read_ladder(bundle) for arch, bundle in bundles.items()}
    return {
        "learning": {arch: curves for arch, curves in learning.items() if curves},
        "ladder": {arch: rungs for arch, rungs in ladder.items() if rungs},
        "passports": [
            {"arch": arch, **MANIFEST, **facts}
            for arch, bundle in bundles.items()
            for _, facts in read_manifests(bundle.path)
        ],
        "gates": {arch: bundle.gates for arch, bundle in bundles.items()},
    }


def read_history(file: Path) -> dict[str, list[float | None]]:
    """Return {column: its numbers} of a history.csv; empty where there is none. A number that is not one is None."""
    if not file.is_file():
        return {}
    with file.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    rows = rows[:: max(1, len(rows) // POINTS)]
    return {name: [_number(row[name]) for row in rows] for name in (rows[0] if rows else {})}


def read_ladder(bundle: Bundle) -> list[dict[str, Any]]:
    """Return the rungs of a bundle's parity.json; none where it has none. Raises InputError when it is damaged."""
    file = bundle.path / "parity.json"
    if not file.is_file():
        return []
    rungs: Any = read_object(file, HINT).get("rungs")
    if not isinstance(rungs, list) or not all(isinstance(rung, dict) and set(rung) >= RUNG for rung in rungs):
        raise InputError(f"{file} holds no rungs: {HINT}")
    return rungs


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "nan")
    except ValueError:
        return None
    return value if math.isfinite(value) else None
