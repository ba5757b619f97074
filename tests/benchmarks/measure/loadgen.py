"""Our timing beside MLPerf's load generator, in alternating rounds: a check of the clock, not MLPerf results.

SingleStream runs in short rounds, each between two of ours. The submission rules are not met.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count, cycle
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure.speed.latency import frame_at, take_turns
from benchmarks.results.run import noise_floor
from core.geometry.frame import Bytes
from core.stats import Floats, Interval
from core.timing import bootstrap_ratio, median_ratio
from inference.frame.processor import FrameProcessor

ROUNDS = 12
QUERIES = 136
"""Queries of a round: more than twice the fewest that claim a p90, and a multiple of CALLS_PER_TURN."""


@dataclass(frozen=True)
class Agreement:
    """The p90 of a frame as measured by LoadGen and by us, in alternating rounds."""

    name: str
    loadgen_p90_ms: float
    own_p90_ms: float
    ratio: float
    ratio_interval: Interval
    own_interval: Interval
    """The A/A control: our time before LoadGen's round over our time after it."""
    agrees: bool
    """Whether the ratio is within the noise of the control."""


def measure_single(name: str, processor: FrameProcessor, frames: Sequence[Bytes]) -> Agreement:
    """Measure the p90 by LoadGen, and by us right before and right after it, ROUNDS times."""
    p90s, stream = np.zeros((3, ROUNDS)), map(frame_at, count(), cycle(frames))
    for turn in range(ROUNDS):
        # before and after: a drift of the machine is in our two times alike, and their ratio shows it
        p90s[0, turn] = time_own(processor, frames)
        p90s[1, turn] = run_single_stream(lambda: processor.process(next(stream)), len(frames))
        p90s[2, turn] = time_own(processor, frames)
    return compare_p90s(name, *p90s)


def time_own(processor: FrameProcessor, frames: Sequence[Bytes]) -> float:
    """Return our own p90 of QUERIES frames, in milliseconds."""
    return float(np.quantile(take_turns([processor], frames, samples=QUERIES)[0].rounds_ms, 0.9))


def compare_p90s(name: str, before: Floats, loadgen: Floats, after: Floats) -> Agreement:
    """Compare the p90s of LoadGen with our own, taken before and after, each float64 (rounds,)."""
    own = np.sqrt(before * after)  # the geometric mean, since ratios are compared
    ratio, control = bootstrap_ratio(own, loadgen), bootstrap_ratio(before, after)
    floor = noise_floor(control)
    agrees = ratio.low <= 1 + floor and ratio.high >= 1 / (1 + floor)
    p90s_ms = float(np.median(loadgen)), float(np.median(own))
    return Agreement(name, *p90s_ms, median_ratio(own, loadgen), ratio, control, agrees)


def run_single_stream(answer: Callable[[], object], samples: int) -> float:
    """Return LoadGen's p90 of QUERIES queries in milliseconds."""
    import mlperf_loadgen as lg

    def issue(queries: Any) -> None:
        for query in queries:
            answer()
            # SingleStream: LoadGen sends the next query when this one is complete
            lg.QuerySamplesComplete([lg.QuerySampleResponse(query.id, 0, 0)])

    settings, output, logs = lg.TestSettings(), lg.LogOutputSettings(), lg.LogSettings()
    settings.scenario, settings.mode = lg.TestScenario.SingleStream, lg.TestMode.PerformanceOnly
    # its own minimum duration would make the rounds too long to alternate
    settings.min_duration_ms, settings.min_query_count, settings.max_query_count = 0, QUERIES, QUERIES
    sut = lg.ConstructSUT(issue, lambda: None)
    qsl = lg.ConstructQSL(samples, samples, lambda _: None, lambda _: None)
    with tempfile.TemporaryDirectory() as folder:
        output.outdir = folder
        # a trace of every query would cost time within the query
        logs.log_output, logs.enable_trace = output, False
        lg.StartTestWithLogSettings(sut, qsl, settings, logs)
        text = (Path(folder) / "mlperf_log_summary.txt").read_text(encoding="utf-8")
    lg.DestroyQSL(qsl)
    lg.DestroySUT(sut)
    return parse_p90_ms(text)


def parse_p90_ms(text: str) -> float:
    """Return the p90 from the `name : value` lines of mlperf_log_summary.txt."""
    facts = dict(line.split(" : ", 1) for line in text.splitlines() if line.count(" : ") == 1)
    return float({name.strip(): value for name, value in facts.items()}["90.0th percentile latency (ns)"]) / 1e6
