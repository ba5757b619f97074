"""Latency of candidates, interleaved: each takes its turn in every round, so that heat and neighbours are shared."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic_ns, perf_counter_ns

import numpy as np

from benchmarks.frames import EGO
from inference.camera import Camera, Mounting
from inference.contract import Bundle
from inference.decision import Verdict
from inference.pipeline import Pipeline
from inference.preprocess import Bytes
from inference.regions import Relative, Zones
from inference.runner import Runner
from inference.sources import Frame, open_source
from inference.stats import Floats, Interval, bootstrap_ratio, coefficient_of_variation, early_stopping_count
from inference.steady import Habits

CALLS_PER_TURN = 8
WARM_UPS_PER_TURN = 1
"""Untimed: a neighbour's turn has just emptied the caches, a camera's stream has not."""
WARM_UPS = 10
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


class HotPath:
    """The runner's own path of a frame: orientation, regions, quality, geometry, engine, decision, smoothing."""

    def __init__(self, bundle: Bundle, pipeline: Pipeline, zones: Mapping[str, Relative] = EGO) -> None:
        self.pipeline = pipeline
        self._mounting, source = Mounting(Camera()), open_source("synthetic://?frames=1")  # never read
        self._runner = Runner(bundle, pipeline, source, Zones(zones), self._mounting, [], (), habits=Habits())
        self._frames = 0

    def answer(self, frame_bgr: Bytes) -> tuple[Verdict, ...]:
        """Return the verdict on each zone of a frame, uint8 (H, W, 3)."""
        self._frames += 1
        frame = Frame(self._frames, monotonic_ns(), frame_bgr, self._frames * FRAME_NS)
        return self._runner.decide(frame, self._mounting.upright(frame_bgr)).verdicts


def take_turns(
    paths: Sequence[HotPath],
    frames: Sequence[Bytes],
    *,
    samples: int = SAMPLES,
    seed: int = 0,
    on_round: Callable[[int, int], None] = lambda done, total: None,
) -> list[Samples]:
    """Time every candidate at batch 1 in rounds of shuffled order, until each has at least `samples` calls."""
    rounds = -(-samples // CALLS_PER_TURN)
    frame_ms = np.zeros((len(paths), rounds, CALLS_PER_TURN))
    engine_ms = np.zeros_like(frame_ms)
    rng = np.random.default_rng(seed)
    for path in paths:
        for i in range(WARM_UPS):
            path.answer(frames[i % len(frames)])
    gc.collect()
    gc.disable()  # a collection of ours would land on one candidate
    try:
        for turn in range(rounds):
            frame_ms[:, turn], engine_ms[:, turn] = time_round(paths, frames, turn, rng)
            on_round(turn + 1, rounds)
    finally:
        gc.enable()
    return [Samples(frame_ms[i], engine_ms[i]) for i in range(len(paths))]


def time_round(
    paths: Sequence[HotPath], frames: Sequence[Bytes], turn: int, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Give each path one turn, in a new order; return frame and engine milliseconds, (paths, CALLS_PER_TURN)."""
    frame_ms = np.zeros((len(paths), CALLS_PER_TURN))
    engine_ms = np.zeros_like(frame_ms)
    for i in rng.permutation(len(paths)):
        _take_turn(paths[i], frames, turn, frame_ms[i], engine_ms[i])
    return frame_ms, engine_ms


def _take_turn(path: HotPath, frames: Sequence[Bytes], turn: int, frame_ms: Floats, engine_ms: Floats) -> None:
    for call in range(-WARM_UPS_PER_TURN, CALLS_PER_TURN):
        # a camera has just written its frame: it lies in the caches, where one of a list does not
        frame = frames[(turn * CALLS_PER_TURN + call) % len(frames)].copy()
        started = perf_counter_ns()
        path.answer(frame)
        taken = perf_counter_ns() - started
        if call >= 0:
            frame_ms[call] = taken / 1e6
            engine_ms[call] = path.pipeline.infer_ns / 1e6


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
