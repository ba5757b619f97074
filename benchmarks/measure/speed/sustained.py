"""Sustained load: all candidates in turns for minutes, their times and the meters window by window."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from itertools import combinations
from time import perf_counter

import numpy as np

from benchmarks.measure.speed.latency import time_rounds
from benchmarks.measure.speed.meters import read_meters
from benchmarks.results.run import RankChange, Sustained, Window
from core.geometry.frame import Bytes
from core.stats import Floats
from inference.frame.processor import FrameProcessor

log = logging.getLogger(__name__)

WINDOWS = 24
"""Windows of a run, which are the points of a curve; in a run of 10 minutes each is 25 s."""
METER_EVERY_S = 1.0


def sustain(
    processors: Mapping[str, FrameProcessor], frames: Sequence[Bytes], minutes: float, *, windows: int = WINDOWS
) -> tuple[Window, ...]:
    """Time the processors in turns for `minutes`, window by window. A window holds at least one round."""
    turns = time_rounds(list(processors.values()), frames)
    measured: list[Window] = []
    started = last_read = perf_counter()
    readings = [read_meters()]
    for window in range(windows):
        end = started + 60 * minutes * (window + 1) / windows
        rounds: list[Floats] = []
        while not rounds or perf_counter() < end:  # a window without a round would have no median
            rounds.append(next(turns)[:, 0])
            if perf_counter() - last_read >= METER_EVERY_S:
                readings.append(read_meters())
                last_read = perf_counter()
        medians = np.median(np.concatenate(rounds, axis=1), axis=1).tolist()
        p50_ms = dict(zip(processors, medians, strict=True))
        measured.append(Window((perf_counter() - started) / 60, p50_ms, average(readings)))
        readings = readings[-1:]  # the next window has a reading even if it ends before METER_EVERY_S
        log.info(f"sustained: minute {measured[-1].minute:.1f} of {minutes:g}")
    return tuple(measured)


def average(readings: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the mean of each meter over the readings that have it."""
    values: dict[str, list[float]] = {}
    for reading in readings:  # a meter can fail for a moment, so that its name is not in every reading
        for name, value in reading.items():
            values.setdefault(name, []).append(value)
    return {name: float(np.mean(values[name])) for name in sorted(values)}


def find_rank_changes(windows: Sequence[Window], noise_floor: float) -> tuple[RankChange, ...]:
    """Return the pairs of candidates whose order reversed beyond the noise, each with the first minute of that."""
    found = []
    first = windows[0].p50_ms
    order = sorted(first, key=lambda name: (first[name], name))
    for leader, follower in combinations(order, 2):  # as they stand in the first window
        if first[leader] * (1 + noise_floor) >= first[follower]:
            continue  # equal at the start: a later difference reverses nothing
        for window in windows[1:]:
            if window.p50_ms[follower] * (1 + noise_floor) < window.p50_ms[leader]:
                found.append(RankChange(window.minute, follower, leader))
                break
    return tuple(sorted(found, key=lambda change: change.minute))


def measure_drift(windows: Sequence[Window]) -> dict[str, float]:
    """Return {candidate: its median over the last quarter of the windows / that over the first quarter}."""
    quarter = max(1, len(windows) // 4)
    drift = {}
    for name in windows[0].p50_ms:
        # medians of windows: a single disturbed window says nothing of the heat
        times_ms = [window.p50_ms[name] for window in windows]
        drift[name] = float(np.median(times_ms[-quarter:]) / np.median(times_ms[:quarter]))
    return drift


def summarize_sustained(minutes: float, windows: tuple[Window, ...], noise_floor: float) -> Sustained:
    """Return the windows with the drift, the rank changes and a summary in words."""
    drift = measure_drift(windows)
    changes = find_rank_changes(windows, noise_floor)
    most = max(drift, key=lambda name: drift[name])  # the one that a hot device slows most
    if changes:
        first = changes[0]
        pairs = "pair" if len(changes) == 1 else "pairs"
        order = (
            f"{len(changes)} {pairs} of candidates changed order beyond the noise; first, {first.faster} overtook"
            f" {first.slower} at minute {first.minute:.1f}"
        )
    else:
        order = "no two candidates changed order beyond the noise"
    sentence = (
        f"Over {minutes:g} minutes of load, {order}. The median time of the last quarter over that of the first is"
        f" largest for {most}: {drift[most]:.3f}."
    )
    return Sustained(minutes, windows, drift, changes, sentence)
