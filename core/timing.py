"""Interleaved timing: what is compared takes turns, so that heat and other processes slow all of it alike.

Timed one after the other, the later task would meet a warmer processor and other load, which would look like a
difference between the tasks. Here each task runs once in every round, and two tasks are compared round by round, so
that what changes between rounds cancels.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np

from core.stats import CONFIDENCE, Floats, Interval

Result = TypeVar("Result")


def interleave(tasks: Sequence[Callable[[], Result]], seed: int = 0) -> Iterator[list[Result]]:
    """Yield rounds without end: the results in the order of `tasks`, which each round calls in a new random order."""
    rng = np.random.default_rng(seed)
    gc.collect()
    while True:
        gc.disable()  # a garbage collection within a round would be timed as a part of one task
        try:
            results = {i: tasks[i]() for i in rng.permutation(len(tasks))}
        finally:
            gc.enable()
        yield [results[i] for i in range(len(tasks))]


def median_ratio(reference_n: Floats, rival_n: Floats) -> float:
    """Return the median of rival / reference over paired rounds."""
    return float(np.exp(np.median(np.log(rival_n / reference_n))))  # logarithms: a / b and b / a stay reciprocal


def bootstrap_ratio(reference_n: Floats, rival_n: Floats, *, resamples: int = 2000, seed: int = 0) -> Interval:
    """Return the 95% bootstrap interval of `median_ratio`."""
    ratios = np.log(rival_n) - np.log(reference_n)
    rng = np.random.default_rng(seed)
    # rounds are drawn whole, so that a reference and its rival of one round stay together
    drawn = rng.integers(0, len(ratios), (resamples, len(ratios)))
    medians = np.median(ratios[drawn], axis=1)
    low, high = np.quantile(medians, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(np.exp(low)), float(np.exp(high)))
