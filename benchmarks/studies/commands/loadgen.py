"""Compare our timing with MLPerf's load generator, for the Pareto front of a measured run; print JSON.

SingleStream runs in short rounds, each between two of ours. The submission rules are not met: these are not MLPerf
results.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count, cycle
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure.candidates import Candidate, candidate_of, open_bundles
from benchmarks.measure.measured_set import open_side_by_side
from benchmarks.measure.speed.latency import frame_at, take_turns
from benchmarks.measure.speed.timed_frames import synthetic_frames
from benchmarks.report.results_file import read_reports
from benchmarks.results.run import noise_floor
from core.cli import Parser
from core.codec import to_json
from core.data.run_dir import Run, open_run
from core.errors import InputError
from core.geometry.frame import Bytes
from core.stats import Floats, Interval, bootstrap_ratio, median_ratio
from inference.frame.processor import FrameProcessor

log = logging.getLogger(__name__)

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


def main(arguments: list[str]) -> None:
    """Run `python -m benchmarks.studies loadgen runs/NAME`."""
    parser = Parser(prog="python -m benchmarks.studies loadgen", description=__doc__)
    parser.add_argument("run", type=Path, metavar="runs/NAME", help="a run that `python -m benchmarks` has measured")
    front = open_front(open_run(parser.parse_args(arguments).run))
    print(json.dumps(to_json(run_loadgen(front, synthetic_frames())), indent=1))


def open_front(run: Run) -> list[Candidate]:
    """Return the candidates of a measured run that no other beats in both accuracy and median time."""
    device, bundles = read_reports(run.path / "report" / "results.json")[0], open_bundles(run)
    return [candidate_of(device.results.by_name[name], bundles) for name in device.choice.front]


def run_loadgen(candidates: Sequence[Candidate], frames: Sequence[Bytes]) -> list[Agreement]:
    """Compare both timings on each candidate."""
    found = []
    for candidate in candidates:
        log.info(f"loadgen: {candidate.name}")
        with open_side_by_side([candidate]) as (opened, refused):
            if refused:
                raise InputError(refused[0].reason)
            found.append(measure_single(candidate.name, opened[0][1], frames))
    return found


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
    """Return LoadGen's p90 of QUERIES queries in milliseconds. Raises InputError when it is not installed."""
    try:
        import mlperf_loadgen as lg
    except ModuleNotFoundError:
        raise InputError("this study needs MLPerf's load generator: pip install mlcommons-loadgen") from None

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
    """Return the p90 from the `name : value` lines of mlperf_log_summary.txt. Raises InputError without one."""
    facts = dict(line.split(" : ", 1) for line in text.splitlines() if line.count(" : ") == 1)
    facts = {name.strip(): value for name, value in facts.items()}
    name = "90.0th percentile latency (ns)"
    if name not in facts:
        raise InputError(f"mlcommons-loadgen wrote no {name!r}: install the locked version")
    return float(facts[name]) / 1e6
