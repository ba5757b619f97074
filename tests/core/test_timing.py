"""Turns: everyone once a round, in changing order, and no garbage collection within one."""

from __future__ import annotations

import gc
from functools import partial
from itertools import islice

import numpy as np
import pytest

from core.timing import bootstrap_ratio, interleave


def test_each_task_is_called_once_a_round_in_an_order_that_changes_and_results_are_in_theirs():
    log: list[str] = []
    tasks = [partial(lambda name: (log.append(name), name)[1], name) for name in "abc"]
    assert list(islice(interleave(tasks, seed=3), 8)) == [["a", "b", "c"]] * 8
    rounds = [tuple(log[i : i + 3]) for i in range(0, 24, 3)]
    assert all(sorted(names) == ["a", "b", "c"] for names in rounds)
    assert len(set(rounds)) > 1


def test_garbage_is_collected_between_rounds_alone_also_after_a_task_that_failed():
    turns = interleave([gc.isenabled, gc.isenabled])
    assert [(next(turns), gc.isenabled()) for _ in range(2)] == [([False, False], True)] * 2
    with pytest.raises(ZeroDivisionError):
        next(interleave([lambda: 1 // 0]))
    assert gc.isenabled()


def test_the_bootstrap_interval_of_a_ratio_covers_it():
    """Coverage by simulation: rounds with a shared drift, 10% slower, lognormal noise."""
    rng = np.random.default_rng(1)
    hits = 0
    for seed in range(200):
        drift = rng.lognormal(0, 0.2, 60)
        low, high = bootstrap_ratio(
            drift * rng.lognormal(0, 0.05, 60), 1.1 * drift * rng.lognormal(0, 0.05, 60), resamples=400, seed=seed
        )
        hits += low <= 1.1 <= high
    assert hits >= 180
