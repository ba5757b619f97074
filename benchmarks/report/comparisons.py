"""Each precision compared with fp32 of the same network and backend: paired time and loss."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.results.candidate import CandidateResult, measured
from benchmarks.results.run import RunResults
from core.stats import Interval, PairCounts, count_pairs
from core.timing import bootstrap_ratio, median_ratio


@dataclass(frozen=True)
class AgainstFp32:
    """A candidate compared with fp32."""

    name: str
    time_ratio: float
    time_interval: Interval
    pairs: PairCounts | None
    """None where one of the two has no accuracy."""


def compare_with_fp32(results: RunResults) -> list[AgainstFp32]:
    """Compare every candidate with fp32 at the same thread count where that was measured, else at another."""
    found = []
    for row in results.candidates:
        base = _baseline_of(row, results)
        if base is not row:
            # the lower quartile of each round, which other processes disturb least
            times = base.latency.undisturbed_ms, row.latency.undisturbed_ms
            a, b = measured(base.accuracy), measured(row.accuracy)
            pairs = count_pairs(results.correct_n(a), results.correct_n(b)) if a and b else None
            found.append(AgainstFp32(row.name, median_ratio(*times), bootstrap_ratio(*times), pairs))
    return found


def _baseline_of(row: CandidateResult, results: RunResults) -> CandidateResult:
    """Return the fp32 candidate of the same network and backend; the row itself where there is none."""
    # several where thread counts were named on the command line
    baselines = []
    for candidate in results.candidates:
        if (candidate.arch, candidate.backend, candidate.precision) == (row.arch, row.backend, "fp32"):
            baselines.append(candidate)
    # False sorts before True: the same thread count first
    return min(baselines, key=lambda candidate: candidate.threads != row.threads, default=row)
