"""Interleaved timing: what is compared takes turns, so that heat and neighbors are shared."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np

Result = TypeVar("Result")


def interleave(tasks: Sequence[Callable[[], Result]], seed: int = 0) -> Iterator[list[Result]]:
    """Yield rounds without end: what each task returned, in the order of the tasks; each round calls in a new order."""
    rng = np.random.default_rng(seed)
    gc.collect()
    while True:
        gc.disable()  # a collection of ours would land on one task; between two rounds it disturbs none
        try:
            results = {i: tasks[i]() for i in rng.permutation(len(tasks))}
        finally:
            gc.enable()
        yield [results[i] for i in range(len(tasks))]
