"""Regressions: accuracy and time of every candidate of a baseline, compared with later results."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.results.candidate import CandidateResult, NotMeasured
from benchmarks.results.run import RunResults
from core.errors import InputError
from core.stats import count_pairs, difference_interval, paired_interval


@dataclass(frozen=True)
class RegressionCheck:
    """One comparison with the baseline; it passed where `failure` and `skipped` are empty."""

    name: str
    failure: str = ""
    skipped: str = ""
    detail: str = ""


def find_regressions(before: RunResults, now: RunResults) -> list[RegressionCheck]:
    """Return two checks for each candidate of the baseline, accuracy and time; one where it is missing now.

    Raises InputError where the frames of the two were not classified in the same kind of regions.
    """
    regions = before.protocol.regions, now.protocol.regions
    if regions[0] != regions[1]:
        raise InputError(
            f"the baseline timed {regions[0]}, these results {regions[1]}: measure both alike, with the same --camera "
            "and with or without a detector in the bundles"
        )
    # candidates that only the new results have are no regression: nothing is said of them
    checks = []
    for old in before.candidates:
        new = _counterpart(before, old, now)
        if new is None:
            checks.append(RegressionCheck(old.name, failure="the baseline has it, these results do not"))
            continue
        checks.append(compare_accuracy(before, old, now, new))
        checks.append(compare_time(before, old, now, new))
    return checks


def _counterpart(before: RunResults, old: CandidateResult, now: RunResults) -> CandidateResult | None:
    """Return the same candidate in the new results, with the best thread count of now where each measured its own."""
    if same := now.by_name.get(old.name):
        return same
    # several where thread counts were named on the command line: each of them is a candidate of its own
    alike = [[row for row in results.candidates if _file_of(row) == _file_of(old)] for results in (before, now)]
    return alike[1][0] if len(alike[0]) == len(alike[1]) == 1 else None


def _file_of(row: CandidateResult) -> tuple[str, str, str]:
    return row.arch, row.precision, row.backend


def compare_accuracy(
    before: RunResults, old: CandidateResult, now: RunResults, new: CandidateResult
) -> RegressionCheck:
    """Fail when the whole 95% interval of the loss is above 0: paired where both classified the same rows."""
    name = f"{old.name} accuracy"
    old_accuracy = old.accuracy
    new_accuracy = new.accuracy
    if isinstance(old_accuracy, NotMeasured) or isinstance(new_accuracy, NotMeasured):
        return RegressionCheck(name, skipped="not measured on both sides")
    same_rows = before.pack.fingerprint == now.pack.fingerprint and np.array_equal(before.labels_n, now.labels_n)
    # paired intervals are narrower: the difficulty of the rows cancels
    if same_rows:
        interval = paired_interval(count_pairs(before.correct_n(old_accuracy), now.correct_n(new_accuracy)))
    else:
        interval = difference_interval(old_accuracy.hits, old_accuracy.n, new_accuracy.hits, new_accuracy.n)
    rows = "on the same rows" if same_rows else "on other rows than the baseline's"
    low, high = (100 * edge for edge in interval)
    detail = f"loss {100 * (old_accuracy.top1 - new_accuracy.top1):+.2f} points ({low:+.2f} to {high:+.2f}) {rows}"
    return RegressionCheck(name, failure=detail if interval.low > 0 else "", detail=detail)


def compare_time(before: RunResults, old: CandidateResult, now: RunResults, new: CandidateResult) -> RegressionCheck:
    """Fail when the median frame time rose by more than the noise floors of both runs together."""
    name = f"{old.name} time"
    old_machine = before.machine
    new_machine = now.machine
    # times of another machine differ whatever the code does
    if (old_machine.name, old_machine.cpu) != (new_machine.name, new_machine.cpu):
        return RegressionCheck(name, skipped=f"measured on {old_machine.name} and on {new_machine.name}")
    ratio = new.latency.frame_ms.p50 / old.latency.frame_ms.p50
    limit = (1 + before.noise.floor) * (1 + now.noise.floor)  # either run may have been off by its own noise
    detail = f"{ratio:.3f} times the baseline's median; the noise of both runs reaches {limit:.3f}"
    if new.threads != old.threads:
        detail += f" (x{old.threads} was the best thread count then, x{new.threads} is now)"
    return RegressionCheck(name, failure=detail if ratio > limit else "", detail=detail)
