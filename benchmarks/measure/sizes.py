"""Bundles of another input size than the run was trained at: their latency alone, never a choice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.measure.measured_set import Measured, open_field, show_progress
from benchmarks.measure.speed.latency import take_turns
from benchmarks.measure.threads import candidates_by_threads
from benchmarks.results import describe_candidate
from core.bundle.contract import Bundle, open_bundle
from core.data.run_dir import Run
from core.geometry.frame import Bytes


def open_other_sizes(run: Run) -> dict[str, Bundle]:
    """Open the bundles of `python -m export --size N`: {"ARCH@N": bundle}."""
    files = sorted(run.path.glob("*/bundle_*/bundle.json"))
    opened = [(file.parent.parent.name, open_bundle(file.parent)) for file in files]
    return {f"{arch}@{bundle.geometry.size_px}": bundle for arch, bundle in opened}


def measure_other_sizes(
    run: Run, backends: Sequence[str], threads: Sequence[int] | None, frames: Sequence[Bytes], samples: int
) -> list[dict[str, Any]]:
    """Time them in turns among themselves, so that they neither heat nor crowd the field; return a row each."""
    bundles = open_other_sizes(run) if samples else {}
    candidates = candidates_by_threads(bundles, backends, threads, frames)
    if not candidates:
        return []
    with open_field(candidates) as (opened, _):
        for candidate, _path in opened:
            candidate.bundle.check_files()
        processors = [one for _, one in opened]
        taken = take_turns(processors, frames, samples=samples, on_round=show_progress("other sizes"))
        described = [one.classifier.backend.describe() for one in processors]
    return [
        describe_candidate(Measured(candidate, facts, None, timed))
        for (candidate, _), facts, timed in zip(opened, described, taken, strict=True)
    ]
