"""MLPerf's load generator beside our timing; its absence is an error in one sentence."""

from __future__ import annotations

import builtins
import json

import numpy as np
import pytest

from benchmarks.measure.speed.timed_frames import synthetic_frames
from benchmarks.report.results_file import read_reports
from benchmarks.results.run import noise_floor
from benchmarks.studies.commands import loadgen
from benchmarks.studies.commands.loadgen import compare_p90s, parse_p90_ms, run_single_stream
from core.errors import InputError


def test_the_study_drives_the_front_of_a_measured_run(measured_run, monkeypatch, capsys):
    pytest.importorskip("mlperf_loadgen")
    monkeypatch.setattr(loadgen, "ROUNDS", 3)
    monkeypatch.setattr(loadgen, "QUERIES", 64)
    monkeypatch.setattr(loadgen, "synthetic_frames", lambda: synthetic_frames(2, (160, 96)))
    loadgen.main([str(measured_run)])
    rows = json.loads(capsys.readouterr().out)
    choice = read_reports(measured_run / "report" / "results.json")[0].choice
    assert [row["name"] for row in rows] == list(choice.front)
    assert all(row["loadgen_p90_ms"] > 0 for row in rows)


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


def test_the_p90_is_read_from_the_summary():
    assert parse_p90_ms("====\nResult is : VALID\n90.0th percentile latency (ns)  : 1500000\n") == 1.5
    with pytest.raises(InputError, match="install the locked version"):
        parse_p90_ms("Result is : VALID\n")


def test_without_the_package_the_hint_is_said(monkeypatch):
    real = builtins.__import__

    def refuse(name, *rest):
        if name == "mlperf_loadgen":
            raise ModuleNotFoundError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(InputError, match="pip install mlcommons-loadgen"):
        run_single_stream(lambda: 0, 1)
