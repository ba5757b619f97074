"""Energy of a frame, where the machine has a counter of joules or a meter of watts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import perf_counter

import numpy as np

from benchmarks.measure.speed.latency import frame_at
from benchmarks.measure.speed.meters import read_joules, read_meters
from core.geometry.frame import Bytes
from inference.frame.processor import FrameProcessor

SECONDS = 2.0
"""Seconds of load for each candidate: long against the 0.1 s over which power meters average."""
METER_EVERY_S = 0.1


def measure_energies(
    processors: Mapping[str, FrameProcessor], frames: Sequence[Bytes], *, seconds: float = SECONDS
) -> dict[str, float]:
    """Return {name: millijoules of a frame} under load, of what the meter covers; {} without a meter.

    That is the processor packages for a counter of joules, and the rails of a Jetson or the first GPU for a meter of
    watts. A counter is read before and after; else the watts are averaged over the time.
    """
    if read_joules() is None and "power_w" not in read_meters():
        return {}
    return {name: _measure(processor, frames, seconds) for name, processor in processors.items()}


def _measure(processor: FrameProcessor, frames: Sequence[Bytes], seconds: float) -> float:
    processor.process(frame_at(0, frames[0]))  # warms up: the first call allocates
    watts = [read_meters().get("power_w", 0.0)]
    done = 0
    joules_before = read_joules()
    started = read_at = perf_counter()
    while perf_counter() - started < seconds:
        processor.process(frame_at(done + 1, frames[done % len(frames)]))
        done += 1
        # a reading takes time from the frames that are counted, so it is seldom, and beside a counter there is none
        if joules_before is None and perf_counter() - read_at >= METER_EVERY_S:
            watts.append(read_meters().get("power_w", 0.0))
            read_at = perf_counter()
    elapsed_s = perf_counter() - started
    joules_after = read_joules()
    if joules_before is not None and joules_after is not None:
        joules = joules_after - joules_before
    else:
        joules = float(np.mean(watts)) * elapsed_s
    return 1000 * joules / done
