"""Bundles of another input size than that of the training: only their latency is measured; none is selectable."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.measure.candidates import Candidate
from benchmarks.measure.measured_set import OTHER_SIZE, describe_opened, open_side_by_side, result_of
from benchmarks.measure.speed.latency import take_turns
from benchmarks.measure.speed.timed_frames import TimedInput
from benchmarks.results.candidate import CandidateResult, NotMeasured
from core.bundle.contract import Bundle, open_bundle
from core.data.run_dir import Run


def open_other_sizes(run: Run) -> dict[str, Bundle]:
    """Open the bundles of `python -m export --size N`: {"ARCH@N": bundle}."""
    files = sorted(run.path.glob("*/bundle_*/bundle.json"))
    opened = [(file.parent.parent.name, open_bundle(file.parent)) for file in files]
    return {f"{arch}@{bundle.geometry.size_px}": bundle for arch, bundle in opened}


def measure_other_sizes(
    candidates: Sequence[Candidate], timed: TimedInput, samples: int
) -> tuple[CandidateResult, ...]:
    """Time these candidates in turns, apart from the selectable ones, whose timing they would disturb."""
    for candidate in candidates:
        candidate.bundle.check_files()  # a runtime may crash at a damaged file
    with open_side_by_side(candidates, timed.config) as (opened, _):
        processors = [processor for _, processor in opened]
        if not opened:
            return ()
        taken = take_turns(processors, timed.frames, samples=samples, what="other sizes")
        results = []
        for (candidate, processor), latency in zip(opened, taken, strict=True):
            facts = describe_opened(processor)
            results.append(result_of(candidate, facts, latency, NotMeasured(OTHER_SIZE), OTHER_SIZE))
        return tuple(results)
