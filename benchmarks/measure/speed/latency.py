"""Latency of candidates, interleaved: each takes its turn in every round, so that heat and neighbours are shared."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count, cycle, islice
from time import monotonic_ns, perf_counter_ns

import numpy as np

from benchmarks.measure.frames import EGO
from core.bundle.contract import Bundle
from core.geometry.frame import Bytes, Frame, Relative
from core.stats import Floats, Interval, bootstrap_ratio, coefficient_of_variation, early_stopping_count
from core.timing import interleave
from inference.backends import Backend
from inference.frame.processor import FrameProcessor
from inference.frame.regions import Zones

CALLS_PER_TURN = 8
WARM_UPS_PER_TURN = 1
"""Untimed: a neighbour's turn has just emptied the caches, a camera's stream has not."""
SAMPLES = early_stopping_count(0.99)
FRAME_NS = 33_333_333
"""Of the clock that smoothing goes by: a camera of 30 frames/s."""
SAME_WITHIN = 0.025
"""Two medians this close are the same. Source: the 2.5% coefficient of variation that issue and tools agree on."""


@dataclass(frozen=True)
class Samples:
    """Durations of one candidate in milliseconds, float64 (rounds, CALLS_PER_TURN), in the order they were taken."""

    frame_ms: Floats
    """All that the runner does with a frame between its source and its sinks."""
    engine_ms: Floats
    """The engine's call alone."""

    @property
    def rounds_ms(self) -> Floats:
        """The median frame time of each round."""
        return np.asarray(np.median(self.frame_ms, axis=1), np.float64)

    @property
    def undisturbed_ms(self) -> Floats:
        """The lower quartile of each round's frame times: a neighbour only ever adds time, so it is the least touched.

        On a core that four others use, its interval of a ratio is a tenth as wide as that of medians.
        """
        return np.asarray(np.quantile(self.frame_ms, 0.25, axis=1), np.float64)


def zone_processor(bundle: Bundle, backend: Backend, zones: Mapping[str, Relative] = EGO) -> FrameProcessor:
    """Return the car's own frame processor on fixed zones, as the runner drives it by default."""
    return FrameProcessor(bundle, backend, Zones(zones))


def frame_at(index: int, image_bgr: Bytes) -> Frame:
    """Return a picture as frame number `index` of a camera of 30 frames/s."""
    return Frame(index, monotonic_ns(), image_bgr, index * FRAME_NS)


def take_turns(
    processors: Sequence[FrameProcessor],
    frames: Sequence[Bytes],
    *,
    samples: int = SAMPLES,
    seed: int = 0,
    on_round: Callable[[int, int], None] = lambda done, total: None,
) -> list[Samples]:
    """Time every candidate at batch 1 in rounds of shuffled order, until each has at least `samples` calls."""
    rounds = -(-samples // CALLS_PER_TURN)
    taken: list[Floats] = []
    for times_ms in islice(time_rounds(processors, frames, seed), 1, 1 + rounds):  # the first warms up
        taken.append(times_ms)
        on_round(len(taken), rounds)
    return [Samples(one[:, 0], one[:, 1]) for one in np.stack(taken, axis=1)]


def time_rounds(processors: Sequence[FrameProcessor], frames: Sequence[Bytes], seed: int = 0) -> Iterator[Floats]:
    """Yield rounds without end: milliseconds of frame and engine, float64 (processors, 2, CALLS_PER_TURN)."""
    # a camera has just written its frame: it lies in the caches, where one of a list does not
    streams = [map(frame_at, count(), map(np.copy, cycle(frames))) for _ in processors]
    turns = [partial(_take_turn, one, stream) for one, stream in zip(processors, streams, strict=True)]
    return map(np.array, interleave(turns, seed))


def _take_turn(processor: FrameProcessor, stream: Iterator[Frame]) -> Floats:
    """Return milliseconds of frame and engine, float64 (2, CALLS_PER_TURN)."""
    times_ms = np.zeros((2, CALLS_PER_TURN))
    for call in range(-WARM_UPS_PER_TURN, CALLS_PER_TURN):
        frame = next(stream)
        started = perf_counter_ns()
        result = processor.process(frame)
        taken = perf_counter_ns() - started
        if call >= 0:
            times_ms[:, call] = taken / 1e6, result.timings.infer_ns / 1e6
    return times_ms


@dataclass(frozen=True)
class Noise:
    """What the run says of itself: an A/A pair's verdict and the spread between rounds."""

    ratio: Interval
    """Bootstrap interval of the undisturbed time of a candidate's twin over the candidate's own: the verdict."""
    median_ratio: Interval
    """The same of their medians, which candidates are ranked by: the floor."""
    spread: float
    """The largest coefficient of variation of a candidate's round medians."""

    @property
    def same(self) -> bool:
        """Whether the A/A pair was found to be the same: false only when its interval is wholly outside."""
        return is_same(self.ratio)

    @property
    def noisy(self) -> bool:
        """Whether the whole table is marked."""
        return not self.same or self.spread > SAME_WITHIN

    @property
    def floor(self) -> float:
        """The relative difference that this run cannot tell from nothing."""
        return max(floor_of(self.ratio), floor_of(self.median_ratio))


def floor_of(ratio: Interval) -> float:
    """Return the relative difference that an A/A pair of this interval cannot tell from nothing."""
    return max(ratio.high - 1, 1 - ratio.low, SAME_WITHIN)


def is_same(ratio: Interval) -> bool:
    """Say whether an interval of a ratio touches 1 +- SAME_WITHIN."""
    return ratio.low <= 1 + SAME_WITHIN and ratio.high >= 1 / (1 + SAME_WITHIN)


def compare(reference: Samples, rival: Samples) -> Interval:
    """Return the interval of the rival's undisturbed frame time over the reference's, paired by round."""
    return bootstrap_ratio(reference.undisturbed_ms, rival.undisturbed_ms)


def judge_noise(reference: Samples, twin: Samples, everyone: Sequence[Samples]) -> Noise:
    """Judge the run by its A/A pair and by the spread of its rounds."""
    spread = max(coefficient_of_variation(samples.rounds_ms) for samples in everyone)
    return Noise(compare(reference, twin), bootstrap_ratio(reference.rounds_ms, twin.rounds_ms), spread)
