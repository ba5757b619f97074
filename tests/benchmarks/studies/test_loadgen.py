"""MLPerf's load generator drives our paths; its accuracy is ours, and its silence is an error in one sentence."""

from __future__ import annotations

import builtins
import json

import numpy as np
import pytest

from benchmarks.measure.accuracy import predict
from benchmarks.measure.candidates import list_candidates, open_bundles
from benchmarks.measure.frames import synthetic_frames
from benchmarks.studies import loadgen
from benchmarks.studies.commands import loadgen as command
from benchmarks.studies.loadgen import compare_p90s, drive, parse, run_loadgen
from core.data.run_dir import open_run
from core.errors import InputError
from core.files import read_json
from inference.backends import open_backend
from inference.frame.classifier import RegionClassifier


@pytest.fixture
def short(monkeypatch):
    pytest.importorskip("mlperf_loadgen")
    monkeypatch.setattr(loadgen, "SECONDS", 0.05)
    monkeypatch.setattr(loadgen, "ROUNDS", 3)
    monkeypatch.setattr(loadgen, "QUERIES", 64)


def test_the_study_drives_the_front_of_a_measured_run(short, measured_run, monkeypatch, capsys):
    monkeypatch.setattr(command, "synthetic_frames", lambda: synthetic_frames(2, (160, 96)))
    command.main([str(measured_run)])
    driven = [row["name"] for row in json.loads(capsys.readouterr().out)["rows"]]
    rows = read_json(measured_run / "report" / "results.json")["candidates"]
    accuracy = {row["name"]: row["accuracy"]["top1"] for row in rows}
    assert accuracy[driven[-1]] == max(accuracy.values())
    assert len(driven) < len(rows)


def test_its_accuracy_is_ours(short, run_folder):
    run = open_run(run_folder)
    pack = run.open_pack()
    candidate = list_candidates(open_bundles(run), ["ort"], [1])[-1]
    row = run_loadgen([candidate], pack, synthetic_frames(2, (160, 96)))["rows"][0]
    backend = open_backend("ort", candidate.bundle, candidate.precision, threads=1)
    expected = predict(RegionClassifier(candidate.bundle, backend), pack).correct_n.mean()
    backend.close()
    assert row["single_accuracy"] == row["multi_accuracy"] == expected
    assert row["single_p90_ms"] > 0
    assert row["single_valid"]
    assert row["multi_p99_ms"] > 0


def test_agreement_is_within_the_noise_of_our_own_rounds():
    rng = np.random.default_rng(0)
    drift = rng.lognormal(0, 0.3, 12)
    own = [drift * rng.lognormal(0, 0.01, 12) for _ in range(2)]
    same = compare_p90s(own[0], drift * rng.lognormal(0, 0.01, 12), own[1])
    assert same["agrees"]
    assert same["floor"] < 0.05
    slower = compare_p90s(own[0], 1.1 * drift * rng.lognormal(0, 0.01, 12), own[1])
    assert not slower["agrees"]
    assert slower["ratio"] == pytest.approx(1.1, rel=0.02)


def test_the_summary_is_read_line_by_line():
    summary = parse("====\nResult is : VALID\n90.0th percentile latency (ns) : 123\nMin duration satisfied : Yes\n")
    assert summary.valid
    assert summary.number("90.0th percentile latency (ns)") == 123
    with pytest.raises(InputError, match="install the locked version"):
        summary.number("99.0th percentile latency (ns)")


def test_without_the_package_the_mend_is_said(monkeypatch):
    real = builtins.__import__

    def refuse(name, *rest):
        if name == "mlperf_loadgen":
            raise ModuleNotFoundError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(InputError, match="pip install mlcommons-loadgen"):
        drive("SingleStream", lambda picked: [0], 1)
