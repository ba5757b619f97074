"""The benchmark against itself, twenty times: an A/A control agrees, a tenth more time is found (`make prove`)."""

from __future__ import annotations

import os
from pathlib import Path
from time import sleep

import pytest

from benchmarks.measure.candidates import candidate_of, open_bundles
from benchmarks.measure.measured_set import open_side_by_side
from benchmarks.measure.speed.latency import SAMPLES, compare_times, take_turns, zone_processor
from benchmarks.measure.speed.timed_frames import read_source, synthetic_frames
from benchmarks.report.results_file import read_reports
from benchmarks.results.run import is_same
from core.data.run_dir import open_run
from inference.backends import open_backend
from tests.benchmarks.measure.loadgen import measure_single
from tests.bundles import make_bundle

RUNS, NEEDED = 20, 19
CALL_S = 0.002


def slow_path(bundle, seconds):
    """A frame processor over the null backend, whose call sleeps."""
    backend = open_backend("null", bundle, "fp32")
    answer = backend.infer
    backend.infer = lambda n: (sleep(seconds), answer(n))[1]
    return zone_processor(bundle, backend)


def series(bundle, factor):
    """Count the RUNS that find a candidate and one that takes `factor` of its time to be the same."""
    frames, same = synthetic_frames(4, (320, 180)), 0
    for seed in range(RUNS):
        paths = [slow_path(bundle, CALL_S), slow_path(bundle, CALL_S * factor)]
        taken = take_turns(paths, frames, samples=SAMPLES, seed=seed)
        ratio = compare_times(*taken)
        same += is_same(ratio)
        print(f"run {seed}: {ratio.low:.4f} to {ratio.high:.4f} of its time")
    return same


@pytest.mark.prove
def test_a_control_is_found_to_be_the_same(tmp_path):
    same = series(make_bundle(tmp_path / "bundle"), 1.0)
    print(f"A/A: the same in {same} of {RUNS}")
    assert same >= NEEDED


@pytest.mark.prove
def test_a_tenth_more_time_is_found(tmp_path):
    same = series(make_bundle(tmp_path / "bundle"), 1.1)
    print(f"10% slower: found in {RUNS - same} of {RUNS}")
    assert RUNS - same >= NEEDED


@pytest.mark.prove
def test_loadgens_p90_is_ours_within_the_noise():
    """On the front of a measured run: RUN=name."""
    name = os.environ.get("RUN")
    if not name:
        pytest.skip("name a measured run: RUN=name")
    run = open_run(Path("runs") / name)
    device, bundles = read_reports(run.path / "report" / "results.json")[0], open_bundles(run)
    front = [candidate_of(device.results.by_name[name], bundles) for name in device.choice.front]
    agreed = []
    with open_side_by_side(front) as (opened, _):
        for candidate, path in opened:
            row = measure_single(candidate.name, path, read_source(None))
            print(row)
            agreed.append(row.agrees)
    assert all(agreed)
