"""Measure the best thread count of each candidate on a CPU, since more threads often make a small network no faster."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

from benchmarks.measure.candidates import Candidate
from benchmarks.measure.measured_set import open_side_by_side
from benchmarks.measure.speed.latency import take_turns
from benchmarks.measure.speed.timed_frames import TimedInput
from core.machine import cores

log = logging.getLogger(__name__)

SAMPLES = 64
AS_FAST = 1.1
"""A count is as fast as the fastest up to this ratio. The smallest one is taken: camera and sinks need cores, too."""


def candidates_by_threads(
    candidates: Sequence[Candidate], threads: Sequence[int] | None, timed: TimedInput
) -> list[Candidate]:
    """Return each candidate with each of the given counts; without counts, with its best one, as measured."""
    if threads is None:
        return [measure_threads(candidate, timed) for candidate in candidates]
    return [replace(candidate, threads=count) for candidate in candidates for count in threads]


def measure_threads(candidate: Candidate, timed: TimedInput) -> Candidate:
    """Return the candidate with its best count; unchanged on a GPU, on one core, or where it does not open.

    candidate: with one thread.
    """
    # opened first, because only an open backend tells its device
    with open_side_by_side([candidate], timed.config) as (single, _):
        # a GPU has no threads to choose, and on one core there is one count
        if not single or single[0][1].classifier.backend.describe()["device"] != "cpu" or cores() == 1:
            return candidate
        others = [replace(candidate, threads=count) for count in thread_counts(cores())[1:]]
        with open_side_by_side(others, timed.config) as (more, _):
            opened = [*single, *more]
            # all counts in turns, so that they meet the same load of the machine
            latencies = take_turns([processor for _, processor in opened], timed.frames, samples=SAMPLES)
    counts = [timed_candidate.threads for timed_candidate, _ in opened]
    medians_ms = dict(zip(counts, [latency.frame_ms.p50 for latency in latencies], strict=True))
    times = ", ".join(f"{count}: {ms:.2f} ms" for count, ms in medians_ms.items())
    log.info(f"threads: {candidate.arch} {candidate.precision} {candidate.backend}: {times}")
    return replace(candidate, threads=best_count(medians_ms))


def thread_counts(most: int) -> list[int]:
    """Return the counts to try: the powers of two up to `most`, and `most`."""
    powers = [2**i for i in range(most.bit_length())]
    return sorted({most, *(count for count in powers if count < most)})


def best_count(medians_ms: Mapping[int, float]) -> int:
    """Return the smallest count whose median is within AS_FAST of the fastest."""
    limit_ms = AS_FAST * min(medians_ms.values())
    return min(count for count, ms in medians_ms.items() if ms <= limit_ms)
