"""Read what training and export left beside the bundles: learning curves, precision reports, engines."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.measure.candidates import read_engines
from benchmarks.results.artifacts import Artifacts
from benchmarks.results.candidate import CandidateResult
from core.bundle.contract import Bundle
from core.bundle.parity_file import read_parity

POINTS = 400
"""Approximate upper limit of the points of a learning curve."""


def gather_artifacts(bundles: Mapping[str, Bundle], measured: Sequence[CandidateResult]) -> Artifacts:
    """Read the artifacts of every bundle; an architecture without one is left out."""
    learning = {arch: read_history(bundle.path.parent / "history.csv") for arch, bundle in bundles.items()}
    reports = {arch: read_parity(bundle.path) for arch, bundle in bundles.items()}
    # what a backend opened is the truth: an engine may lie there that no measured candidate runs
    files = set[tuple[str, object]]()
    for result in measured:
        files.add((result.arch, result.opened["file"]))
        if isinstance(detector := result.opened.get("detector"), dict):
            files.add((result.arch, detector["file"]))
    engines = [
        replace(engine, measured=(arch, engine.engine) in files)
        for arch, bundle in bundles.items()
        for engine in read_engines(arch, bundle)
    ]
    return Artifacts(
        {arch: curves for arch, curves in learning.items() if curves},
        {arch: results for arch, results in reports.items() if results},
        tuple(engines),
        {arch: describe_abstention(bundle) for arch, bundle in bundles.items()},
    )


def describe_abstention(bundle: Bundle) -> str:
    """Return a sentence on the abstain threshold: on what it was fitted, and the coverage and risk it reached there."""
    threshold, fit = bundle.abstain_threshold, bundle.provenance.get("abstention", {})
    if fit.get("threshold") != threshold:
        return f"What the abstain threshold of {threshold:.3f} reaches is not known: the bundle was not fitted with it."
    if fit["fitted_on"] == "frames":
        on = f"the {fit['objects']} objects with a region in {fit['frames']} frames of val, in {fit['regions']}"
        interval = f" (95% interval {100 * fit['risk_low_95']:.1f}-{100 * fit['risk_high_95']:.1f}%)"
    else:
        on, interval = f"{fit['rows']} rows of val", ""
    return (
        f"The abstain threshold of {threshold:.3f} was fitted on {on}: it answers {fit['coverage']:.1%} of them, and"
        f" {fit['risk']:.1%}{interval} of these answers are wrong; at most {fit['risk_wanted']:.1%} were wanted."
    )


def read_history(file: Path) -> dict[str, tuple[float | None, ...]]:
    """Return {column: its numbers} of a history.csv; {} without the file. A cell that is no finite number is None."""
    if not file.is_file():
        return {}
    with file.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    rows = rows[:: max(1, len(rows) // POINTS)]  # a long training would fill the page with points that none can see
    columns = rows[0] if rows else {}
    return {name: tuple(_number(row[name]) for row in rows) for name in columns}


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "nan")
    except ValueError:
        return None
    return value if math.isfinite(value) else None
