"""What a precision buys on this machine: the engine's call alone, interleaved with fp32's, at batch 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter_ns, process_time_ns

import numpy as np
from numpy.typing import NDArray

from inference import backends
from inference.backends import Backend, open_backend
from inference.contract import Bundle

CALLS_PER_TURN = 5
WARM_UPS = 10
SAME_WITHIN = 0.05
"""A ratio this close to 1 is no reason to choose."""
DRAWS = 2000
CLOCKS = {"wall": perf_counter_ns, "cpu": process_time_ns}
"""wall is what a user waits; cpu is what the call itself costs where others hold the core half of the time."""


@dataclass(frozen=True)
class Speed:
    """One precision of one bundle on one backend."""

    arch: str
    size_px: int
    backend: str
    precision: str
    threads: int
    clock: str
    median_ms: float
    ratio: float
    """Its median over fp32's, of turns that were taken in one run."""
    low_95: float
    high_95: float
    verdict: str


def time_bundle(bundle: Bundle, names: Sequence[str], threads: int, rounds: int, clock: str = "wall") -> list[Speed]:
    """Time every precision that a backend has, all backends taking turns; fp32 first of each backend."""
    held = [
        (name, precision)
        for name in names
        for precision in ("fp32", "fp16", "bf16", "int8")
        if precision in backends.find(name).PRECISIONS and precision in bundle.precisions
    ]
    opened = [open_backend(name, bundle, precision, threads=threads) for name, precision in held]
    try:
        turns_ms = take_turns(opened, rounds, clock=clock)
    finally:
        for backend in opened:
            backend.close()
    medians = dict(zip(held, turns_ms, strict=True))
    return [
        _judge(bundle, key, (threads, clock), medians[key], medians.get((key[0], "fp32"), medians[key])) for key in held
    ]


def take_turns(opened: Sequence[Backend], rounds: int, seed: int = 0, clock: str = "wall") -> NDArray[np.float64]:
    """Return the median ms of each turn, (files, rounds): in every round each file has a turn, in shuffled order."""
    random = np.random.default_rng(seed)
    for backend in opened:
        backend.input_nhwc[:] = random.integers(0, 256, backend.input_nhwc.shape, np.uint8)
        for _ in range(WARM_UPS):
            backend.infer(1)
    turns_ms = np.zeros((len(opened), rounds))
    for turn in range(rounds):
        for i in random.permutation(len(opened)):
            opened[i].infer(1)  # the neighbour's turn emptied the caches
            turns_ms[i, turn] = np.median([_time_call(opened[i], clock) for _ in range(CALLS_PER_TURN)])
    return turns_ms


def _time_call(backend: Backend, clock: str) -> float:
    now = CLOCKS[clock]
    started = now()
    backend.infer(1)
    return (now() - started) / 1e6


def _judge(
    bundle: Bundle, key: tuple[str, str], how: tuple[int, str], own: NDArray[np.float64], fp32: NDArray[np.float64]
) -> Speed:
    backend, precision = key
    low, high = interval(own, fp32)
    ratio = float(np.median(own) / np.median(fp32))
    return Speed(
        bundle.arch, bundle.geometry.size_px, backend, precision, *how, float(np.median(own)), ratio, low, high,
        say(precision, backend, low, high),
    )  # fmt: skip


def interval(own: NDArray[np.float64], fp32: NDArray[np.float64], seed: int = 0) -> tuple[float, float]:
    """Return the 95% bootstrap interval of the ratio of medians, rounds drawn in pairs."""
    rounds = np.random.default_rng(seed).integers(0, len(own), (DRAWS, len(own)))
    low, high = np.percentile(np.median(own[rounds], axis=1) / np.median(fp32[rounds], axis=1), [2.5, 97.5])
    return float(low), float(high)


def say(precision: str, backend: str, low: float, high: float) -> str:
    """Say in words what a ratio's interval shows."""
    if precision == "fp32":
        return "the reference"
    if high < 1 - SAME_WITHIN:
        return f"{precision} takes {100 * high:.0f}% of fp32's time or less on {backend} here"
    if low > 1 + SAME_WITHIN:
        return f"{precision} is slower than fp32 on {backend} here"
    if low > 1 - SAME_WITHIN and high < 1 + SAME_WITHIN:
        return f"{precision} equals fp32 on {backend} here: it buys nothing"
    if low > 1 - SAME_WITHIN:
        return f"{precision} buys nothing on {backend} here"
    return f"{precision} is not shown to be faster than fp32 on {backend} here"
