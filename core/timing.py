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
