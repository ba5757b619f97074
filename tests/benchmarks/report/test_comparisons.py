"""Each precision beside fp32 of the same network and backend."""

from __future__ import annotations

import numpy as np

from benchmarks.measure.accuracy import score
from benchmarks.report.comparisons import compare_with_fp32
from core.stats import PairCounts
from tests.benchmarks.conftest import result_of, results_of
from tests.bundles import CLASSES

TIMES = np.ones((4, 8))


def test_int8_is_compared_with_fp32_where_their_best_counts_differ():
    full, small = result_of(threads=2, times_ms=2 * TIMES), result_of(precision="int8")
    (row,) = compare_with_fp32(results_of(full, small, result_of(arch="b", precision="int8")))
    assert (row.name, row.time_ratio, row.pairs) == (small.name, 0.5, None)


def test_the_same_thread_count_is_preferred():
    slow, same = result_of(threads=2, times_ms=8 * TIMES), result_of(times_ms=2 * TIMES)
    (row,) = compare_with_fp32(results_of(slow, same, result_of(precision="int8")))
    assert row.time_ratio == 0.5


def test_the_loss_is_paired_by_row():
    labels = np.array([0, 1, 2, 2])

    def answered(precision, *answers):
        return result_of(precision=precision, accuracy=score(labels, np.eye(3)[list(answers)], CLASSES))

    results = results_of(answered("fp32", 0, 1, 2, 0), answered("int8", 0, 0, 1, 2), labels_n=labels)
    assert compare_with_fp32(results)[0].pairs == PairCounts(2, 1, 4)
