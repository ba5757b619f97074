"""Read what training and export left beside the bundles: learning curves, precision reports, engines."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.measure.candidates import read_engines
from benchmarks.results.artifacts import Artifacts, ParityResult
from benchmarks.results.candidate import CandidateResult
from core.bundle.contract import HINT, Bundle
from core.codec import from_json, known_keys
from core.errors import InputError
from core.files import read_object

POINTS = 400
"""Approximate upper limit of the points of a learning curve."""


def gather_artifacts(bundles: Mapping[str, Bundle], measured: Sequence[CandidateResult]) -> Artifacts:
    """Read the artifacts of every bundle; an architecture without one is left out."""
    learning = {arch: read_history(bundle.path.parent / "history.csv") for arch, bundle in bundles.items()}
    reports = {arch: read_precision_report(bundle) for arch, bundle in bundles.items()}
    files = {(result.arch, result.opened["file"]) for result in measured}
    engines = [
        replace(engine, measured=(arch, engine.engine) in files)
        for arch, bundle in bundles.items()
        for engine in read_engines(arch, bundle)
    ]
    return Artifacts(
        {arch: curves for arch, curves in learning.items() if curves},
        {arch: results for arch, results in reports.items() if results},
        tuple(engines),
    )


def read_history(file: Path) -> dict[str, tuple[float | None, ...]]:
    """Return {column: its numbers} of a history.csv; {} without the file. A cell that is no finite number is None."""
    if not file.is_file():
        return {}
    with file.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    rows = rows[:: max(1, len(rows) // POINTS)]
    return {name: tuple(_number(row[name]) for row in rows) for name in (rows[0] if rows else {})}


def read_precision_report(bundle: Bundle) -> tuple[ParityResult, ...]:
    """Return the content of a bundle's parity.json; empty without the file. Raises InputError when it is damaged."""
    file = bundle.path / "parity.json"
    if not file.is_file():
        return ()
    rows = read_object(file, HINT).get("rungs")
    if not isinstance(rows, list):
        raise InputError(f"{file} holds no rungs: {HINT}")
    return tuple(from_json(ParityResult, known_keys(ParityResult, row), str(file)) for row in rows)


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "nan")
    except ValueError:
        return None
    return value if math.isfinite(value) else None
