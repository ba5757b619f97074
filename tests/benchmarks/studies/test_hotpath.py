"""The command hotpath: it times the whole of the runner's work, for each backend and thread count asked for."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks.measure.speed.latency import frame_at, summarize_latency, zone_processor
from benchmarks.studies.commands import hotpath
from core.errors import InputError
from core.synthetic import ZONES
from inference.backends import open_backend
from inference.frame.states import State
from tests.bundles import make_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("hotpath") / "bundle")


def test_there_is_a_row_for_null_and_one_for_each_backend_and_thread_count(bundle, capsys):
    asked = ["--backends", "ort", "--threads", "1", "2", "--precision", "fp32", "--samples", "16", "--json"]
    hotpath.main([str(bundle.path), *asked])
    body = json.loads(capsys.readouterr().out)
    found = [(row["backend"], row["precision"], row["threads"]) for row in body["rows"]]
    assert found == [("null", "fp32", 1), ("ort", "fp32", 1), ("ort", "fp32", 2)]
    assert body["zones"] == [1, 3]


def test_what_is_timed_looks_and_smooths_as_the_runner_does(bundle):
    processor = zone_processor(bundle, open_backend("null", bundle, "fp32", batch=3), ZONES)
    verdicts = processor.process(frame_at(0, np.zeros((72, 128, 3), np.uint8))).verdicts
    assert [(v.name, v.state, v.reason) for v in verdicts] == [(name, State.BLIND, "black") for name in ZONES]


def test_another_kernel_is_timed_and_named(bundle, capsys, monkeypatch):
    timed = []
    monkeypatch.setattr(hotpath, "measure", lambda bundle, *_: timed.append(bundle.geometry) or [])
    hotpath.main([str(bundle.path), "--kernel", "linear", "--json"])
    assert json.loads(capsys.readouterr().out)["kernel"] == timed[0].kernel == "linear"
    assert bundle.geometry.kernel != "linear"
    assert timed[0].size_px == bundle.geometry.size_px


def test_the_ratio_is_of_rounds_and_the_rate_of_one_zone():
    times_ms = np.array([[2.0, 2.0, 2.0, 2.0], [4.0, 4.0, 4.0, 4.0], [1.0, 1.0, 1.0, 1.0]])
    facts = {"backend": "ort", "precision": "fp32", "threads": 1}
    row = hotpath.hotpath_of(facts, summarize_latency(times_ms, times_ms), summarize_latency(1.5 * times_ms, times_ms))
    assert (row.frames_per_s, row.one_ms, row.three_ms) == (500.0, 2.0, 3.0)
    assert [row.ratio, *row.ratio_interval] == pytest.approx([1.5, 1.5, 1.5])


@pytest.mark.parametrize("asked", [("--samples", "0"), ("--threads", "0")])
def test_nothing_to_time_is_refused(bundle, asked):
    with pytest.raises(InputError, match="over 0"):
        hotpath.main([str(bundle.path), *asked])
