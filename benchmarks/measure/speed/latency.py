"""Latency of candidates in interleaved rounds, in each of which every candidate has a turn (see core/timing.py)."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import count, cycle, islice
from math import gcd
from time import monotonic_ns, perf_counter_ns

import numpy as np

from benchmarks.measure.speed.timed_frames import EGO
from benchmarks.results.candidate import Latency
from benchmarks.results.run import Noise
from core.bundle.contract import Bundle
from core.geometry.frame import Bytes, Frame, Relative
from core.stats import Floats, Interval, coefficient_of_variation, early_stopping_count, summarize
from core.timing import bootstrap_ratio, interleave
from inference.backends import Backend
from inference.frame.processor import FrameProcessor
from inference.frame.regions import Zones

log = logging.getLogger(__name__)

CALLS_PER_TURN = 8
WARM_UPS_PER_TURN = 1
"""Untimed calls before a turn, since the previous candidate emptied the caches, which no camera stream does."""
SAMPLES = early_stopping_count(0.99)
FRAME_NS = 33_333_333
"""Time between frames, for the smoothing: that of a camera of 30 frames/s."""


def zone_processor(bundle: Bundle, backend: Backend, zones: Mapping[str, Relative] = EGO) -> FrameProcessor:
    """Return the car's own frame processor on fixed zones, set up as in the runner."""
    return FrameProcessor(bundle, backend, Zones(zones))


def frame_at(index: int, image_bgr: Bytes) -> Frame:
    """Return an image as frame number `index` of a camera of 30 frames/s."""
    return Frame(index, monotonic_ns(), image_bgr, index * FRAME_NS)


def take_turns(
    processors: Sequence[FrameProcessor],
    frames: Sequence[Bytes],
    *,
    samples: int = SAMPLES,
    seed: int = 0,
    what: str = "",
) -> list[Latency]:
    """Time every candidate at batch 1 in rounds of shuffled order, until each has at least `samples` calls.

    what: what is timed, for the log of its progress; empty for no log.
    """
    rounds = -(-samples // CALLS_PER_TURN)
    taken: list[Floats] = []
    for times_ms in islice(time_rounds(processors, frames, seed), 1, 1 + rounds):  # the first round warms up
        taken.append(times_ms)
        done = len(taken)
        if what and done * 4 // rounds != (done - 1) * 4 // rounds:  # a quarter was completed
            log.info(f"{what}: {100 * done // rounds}%")
    by_processor = np.stack(taken, axis=1)  # (processors, rounds, 2, CALLS_PER_TURN)
    return [summarize_latency(times_ms[:, 0], times_ms[:, 1]) for times_ms in by_processor]


def time_rounds(processors: Sequence[FrameProcessor], frames: Sequence[Bytes], seed: int = 0) -> Iterator[Floats]:
    """Yield rounds without end, each float64 (processors, 2, CALLS_PER_TURN): milliseconds of frame and engine."""
    # a camera has just written its frame, so that it lies in the caches; the copy brings a stored frame there, too
    streams = [map(frame_at, count(), map(np.copy, cycle(frames))) for _ in processors]  # each counts its own frames
    turns = [partial(_take_turn, processor, stream) for processor, stream in zip(processors, streams, strict=True)]
    return map(np.array, interleave(turns, seed))


def count_warm_ups(every: int) -> int:
    """Return the number of untimed calls before a turn, for a detector that runs in every n-th call.

    The calls of a turn, with the untimed ones, have no common divisor with n: else the detector would run in the same
    calls of every turn, perhaps only in untimed ones.
    """
    return next(n for n in count(WARM_UPS_PER_TURN) if gcd(CALLS_PER_TURN + n, every) == 1)


def _take_turn(processor: FrameProcessor, stream: Iterator[Frame]) -> Floats:
    """Return milliseconds of frame and engine, float64 (2, CALLS_PER_TURN)."""
    times_ms = np.zeros((2, CALLS_PER_TURN))
    for call in range(-count_warm_ups(processor.region_source.every), CALLS_PER_TURN):
        frame = next(stream)
        started = perf_counter_ns()
        result = processor.process(frame)
        taken = perf_counter_ns() - started
        if call >= 0:
            times_ms[:, call] = taken / 1e6, result.timings.infer_ns / 1e6
    return times_ms


def summarize_latency(frame_ms: Floats, engine_ms: Floats) -> Latency:
    """Return the latency of times in milliseconds, float64 (rounds, CALLS_PER_TURN), in the order of measurement."""
    stored_ms = np.round(frame_ms, 5)  # to 10 ns: finer digits are noise, and would lengthen results.json
    return Latency(summarize(frame_ms.ravel()), summarize(engine_ms.ravel()), stored_ms)


def compare_times(reference: Latency, rival: Latency) -> Interval:
    """Return the 95% interval of the rival's undisturbed frame time over the reference's, paired by round."""
    return bootstrap_ratio(reference.undisturbed_ms, rival.undisturbed_ms)


def measure_noise(control: str, latencies: Sequence[Latency], again: Latency) -> Noise:
    """Return the noise of a run. again: the first candidate, `control`, opened and timed once more."""
    medians_ms = [np.median(latency.rounds_ms, axis=1) for latency in (*latencies, again)]
    ratio = compare_times(latencies[0], again)
    median_ratio = bootstrap_ratio(medians_ms[0], medians_ms[-1])
    spread = max(map(coefficient_of_variation, medians_ms))
    return Noise(control, ratio, median_ratio, spread)
