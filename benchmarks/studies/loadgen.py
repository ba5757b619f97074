"""MLPerf's own load generator on our hot path, beside our own timing.

The durations are short and no submission rule is kept: these are not MLPerf results.
"""

from __future__ import annotations

import array
import json
import logging
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count, cycle
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks.measure.accuracy import classify_rows
from benchmarks.measure.candidates import Candidate, open_bundles
from benchmarks.measure.measured_set import open_field
from benchmarks.measure.session import pick_front
from benchmarks.measure.speed.latency import floor_of, frame_at, take_turns
from benchmarks.results import read_results
from core.data.pack import Pack
from core.data.run_dir import Run
from core.errors import InputError
from core.geometry.frame import Bytes
from core.stats import Floats, bootstrap_ratio, early_stopping_count
from inference.backends import open_backend
from inference.frame.classifier import RegionClassifier
from inference.frame.processor import FrameProcessor

log = logging.getLogger(__name__)

STREAMS = 8
"""Regions of a MultiStream query: all go through the network as one batch."""
SECONDS = 5.0
"""Of a MultiStream run."""
OFFICIAL_SECONDS = 600
"""Source: MLPerf inference rules, the shortest valid run of a single-stream test."""
ROUNDS = 12
"""Of SingleStream, each between two of our own timing: what passes by is shared, and our own two are its noise."""
QUERIES = 136
"""Of a round, twice what a p90 is claimed from; whole turns of ours."""
NOTE = (
    f"not MLPerf results: SingleStream in {ROUNDS} rounds of {QUERIES} queries, MultiStream for {SECONDS:g} s; the"
    f" official minimum is {OFFICIAL_SECONDS} s"
)


@dataclass(frozen=True)
class Summary:
    """What the load generator says of a run."""

    valid: bool
    facts: dict[str, str]

    def number(self, name: str) -> float:
        """Return a figure of the summary. Raises InputError when this version of the generator does not give it."""
        if name not in self.facts:
            raise InputError(f"mlcommons-loadgen gave no {name!r}: install the locked version")
        return float(self.facts[name])


def open_front(run: Run) -> list[Candidate]:
    """Return the candidates of a measured run that nobody beats in both accuracy and median time."""
    results, bundles = read_results(run.path / "report" / "results.json")[0], open_bundles(run)
    return pick_front(
        results,
        [
            Candidate(row["arch"], bundles[row["arch"]], row["precision"], row["backend"], row["threads"])
            for row in results["candidates"]
        ],
    )


def run_loadgen(candidates: Sequence[Candidate], pack: Pack, frames: Sequence[Bytes]) -> dict[str, Any]:
    """Drive candidates in SingleStream and MultiStream, for performance and accuracy; return a row each."""
    rows = []
    for candidate in candidates:
        log.info(f"loadgen: {candidate.name}")
        with open_field([candidate]) as (opened, refused):
            if refused:
                raise InputError(refused[0].reason)
            single = measure_single(opened[0][1], pack, frames)
        rows.append({"name": candidate.name, **single, **measure_multi(candidate, pack)})
    return {"note": NOTE, "seconds": SECONDS, "official_seconds": OFFICIAL_SECONDS, "streams": STREAMS, "rows": rows}


def measure_single(processor: FrameProcessor, pack: Pack, frames: Sequence[Bytes]) -> dict[str, Any]:
    """Return p90 of a frame by LoadGen and by us in alternate rounds, whether they agree, and LoadGen's accuracy."""
    expected_ms = float(np.median(take_turns([processor], frames, samples=QUERIES)[0].frame_ms))
    valid, p90s = True, np.zeros((3, ROUNDS))
    stream = map(frame_at, count(), cycle(frames))
    for turn in range(ROUNDS):
        p90s[0, turn] = time_own(processor, frames)
        speed = drive(
            "SingleStream",
            lambda picked: [processor.process(next(stream)) for _ in picked],
            len(frames),
            expected_ms,
            QUERIES,
        )
        p90s[1, turn], valid = speed.number("90.0th percentile latency (ns)") / 1e6, valid and speed.valid
        p90s[2, turn] = time_own(processor, frames)
    return {
        **compare_p90s(*p90s),
        "single_valid": valid,
        "single_accuracy": score("SingleStream", pack, lambda image: say(processor.classifier, image)),
    }


def time_own(processor: FrameProcessor, frames: Sequence[Bytes]) -> float:
    """Return our own p90 of as many frames, in milliseconds."""
    return float(np.quantile(take_turns([processor], frames, samples=QUERIES)[0].frame_ms, 0.9))


def compare_p90s(before: Floats, theirs: Floats, after: Floats) -> dict[str, Any]:
    """Return the ratio of LoadGen's p90 to ours, with its interval, and whether it is within our own noise.

    A p90 a round; ours were taken right before and right after LoadGen's, and their ratio is the A/A pair of this
    comparison: what its interval reaches to is the floor.
    """
    own = np.sqrt(before * after)
    ratio, twins = bootstrap_ratio(own, theirs), bootstrap_ratio(before, after)
    floor = floor_of(twins)
    return {
        "single_p90_ms": float(np.median(theirs)),
        "own_p90_ms": float(np.median(own)),
        "ratio": float(np.exp(np.median(np.log(theirs / own)))),
        "ratio_interval": list(ratio),
        "own_interval": list(twins),
        "floor": floor,
        "agrees": ratio.low <= 1 + floor and ratio.high >= 1 / (1 + floor),
    }


def say(classifier: RegionClassifier, image: Bytes) -> int:
    """Return the class of a row that goes in as a frame. image: uint8 (S, S, 3) RGB."""
    return int(classify_rows(classifier, image[None])[0].argmax())


def measure_multi(candidate: Candidate, pack: Pack) -> dict[str, Any]:
    """Return p99 of a query of STREAMS rows as one batch, and the accuracy of such batches."""
    c, rows = candidate, pack.rows("test")
    with open_backend(c.backend, c.bundle, c.precision, batch=STREAMS, threads=c.threads) as backend:

        def answer(picked: Sequence[int]) -> list[int]:
            backend.input_nhwc[: len(picked)] = pack.images_nhwc[rows[picked]]
            return [int(top) for top in backend.infer(len(picked)).argmax(1)]

        answer(range(min(STREAMS, len(rows))))
        started = perf_counter()
        answer(range(min(STREAMS, len(rows))))
        took_ms = (perf_counter() - started) * 1000
        queries = max(early_stopping_count(0.99), int(SECONDS * 1000 / took_ms))
        speed = drive("MultiStream", answer, len(rows), took_ms, queries)
        return {
            "multi_p99_ms": speed.number("99.0th percentile latency (ns)") / 1e6,
            "multi_valid": speed.valid,
            "multi_accuracy": score("MultiStream", pack, lambda image: say(RegionClassifier(c.bundle, backend), image)),
        }


def score(scenario: str, pack: Pack, answer: Callable[[Bytes], int]) -> float:
    """Return the test accuracy by LoadGen's accuracy log: every row asked once, the answers read back from its file."""
    rows = pack.rows("test")
    with tempfile.TemporaryDirectory() as folder:
        drive(scenario, lambda picked: [answer(pack.images_nhwc[rows[i]]) for i in picked], len(rows), folder=folder)
        log = json.loads((Path(folder) / "mlperf_log_accuracy.json").read_text(encoding="utf-8"))
    said = {entry["qsl_idx"]: int.from_bytes(bytes.fromhex(entry["data"])[:8], "little") for entry in log}
    return float(np.mean([said[i] == label for i, label in enumerate(pack.labels_n[rows])]))


def drive(
    scenario: str,
    answer: Callable[[Sequence[int]], Sequence[Any]],
    count: int,
    expected_ms: float = 1.0,
    queries: int = 1,
    folder: str | None = None,
) -> Summary:
    """Run one test over `count` samples: for accuracy, with its log in `folder`, or that many queries for performance.

    Raises InputError when mlcommons-loadgen is not installed.
    """
    try:
        import mlperf_loadgen as lg
    except ModuleNotFoundError:
        raise InputError("this study needs MLPerf's load generator: pip install mlcommons-loadgen") from None

    def issue(samples: Any) -> None:
        said = answer([sample.index for sample in samples])
        held = array.array("q", [item if isinstance(item, int) else 0 for item in said])
        at = held.buffer_info()[0]
        lg.QuerySamplesComplete([lg.QuerySampleResponse(s.id, at + 8 * i, 8) for i, s in enumerate(samples)])

    settings, output, logs = lg.TestSettings(), lg.LogOutputSettings(), lg.LogSettings()
    settings.scenario = getattr(lg.TestScenario, scenario)
    settings.mode = lg.TestMode.AccuracyOnly if folder else lg.TestMode.PerformanceOnly
    settings.min_duration_ms, settings.min_query_count, settings.max_query_count = 0, queries, queries
    settings.single_stream_expected_latency_ns = settings.multi_stream_expected_latency_ns = int(expected_ms * 1e6)
    settings.multi_stream_samples_per_query = STREAMS
    sut = lg.ConstructSUT(issue, lambda: None)
    qsl = lg.ConstructQSL(count, min(count, 1024), lambda picked: None, lambda picked: None)
    with tempfile.TemporaryDirectory() as temporary:
        output.outdir = folder or temporary
        logs.log_output, logs.enable_trace = output, False
        lg.StartTestWithLogSettings(sut, qsl, settings, logs)
        text = (Path(output.outdir) / "mlperf_log_summary.txt").read_text(encoding="utf-8")
    lg.DestroyQSL(qsl)
    lg.DestroySUT(sut)
    return parse(text)


def parse(text: str) -> Summary:
    """Read mlperf_log_summary.txt: `name : value` lines."""
    pairs = [line.split(":", 1) for line in text.splitlines() if line.count(":") == 1]
    facts = {name.strip(): value.strip() for name, value in pairs}
    return Summary(facts.get("Result is") == "VALID", facts)
