"""The comparison with MLPerf's load generator finds what agrees with our timing and what does not."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.measure.speed.timed_frames import synthetic_frames
from benchmarks.results.run import noise_floor
from tests.benchmarks.measure import loadgen
from tests.benchmarks.measure.loadgen import compare_p90s, measure_single
from tests.benchmarks.measure.test_noise import slow_path
from tests.bundles import make_bundle


def test_loadgen_times_the_frame_step(tmp_path, monkeypatch):
    pytest.importorskip("mlperf_loadgen")
    monkeypatch.setattr(loadgen, "ROUNDS", 3)
    monkeypatch.setattr(loadgen, "QUERIES", 64)
    row = measure_single("slow", slow_path(make_bundle(tmp_path / "bundle"), 0.002), synthetic_frames(2, (160, 96)))
    assert 2 < row.loadgen_p90_ms < 2000  # the call sleeps for 2 ms, which are 2000 us


def test_agreement_is_within_the_noise_of_our_own_rounds():
    rng = np.random.default_rng(0)
    drift = rng.lognormal(0, 0.3, 12)
    own = [drift * rng.lognormal(0, 0.01, 12) for _ in range(2)]
    same = compare_p90s("a", own[0], drift * rng.lognormal(0, 0.01, 12), own[1])
    assert same.agrees
    assert noise_floor(same.own_interval) < 0.05
    slower = compare_p90s("a", own[0], 1.1 * drift * rng.lognormal(0, 0.01, 12), own[1])
    assert not slower.agrees
    assert slower.ratio == pytest.approx(1.1, rel=0.02)
