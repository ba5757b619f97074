"""The gate: a significant loss fails, noise does not."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.proportion import confint_proportions_2indep

from benchmarks.choose.gate import compare_results
from benchmarks.commands import gate
from benchmarks.results import decode_classes, encode_classes
from core.errors import CheckError
from core.files import read_json, write_json
from core.stats import difference_interval


@pytest.fixture(scope="module")
def results(measured_run):
    return read_json(measured_run / "report" / "results.json")


def failures(before, now):
    return [case.name for case in compare_results(before, now) if case.failure]


def spoil(results, part, name="tiny_a fp32 ort x1"):
    """Return results in which `name` has another `part` of its right rows wrong."""
    body = copy.deepcopy(results)
    row = next(row for row in body["candidates"] if row["name"] == name)
    labels, said = decode_classes(body["test"]["labels"]), decode_classes(row["predicted"])
    right = np.flatnonzero(labels == said)[: round(part * len(labels))]
    said[right] = (labels[right] + 1) % len(body["pack"]["classes"])
    row["predicted"], hits = encode_classes(said), int((said == labels).sum())
    row["accuracy"] |= {"hits": hits, "top1": hits / len(labels)}
    return body


def test_the_same_results_pass(results):
    cases = compare_results(results, results)
    assert len(cases) == 2 * len(results["candidates"])
    assert not [case for case in cases if case.failure or case.skipped]


def test_a_significant_loss_fails_and_one_row_does_not(results):
    assert failures(results, spoil(results, 0.3)) == ["tiny_a fp32 ort x1 accuracy"]
    assert failures(results, spoil(results, 0.02)) == []
    assert failures(spoil(results, 0.3), results) == [], "a gain is no failure"


def test_other_rows_are_compared_as_independent(results):
    other = {**spoil(results, 0.3), "pack": {**results["pack"], "fingerprint": "another"}}
    case = next(c for c in compare_results(results, other) if c.name == "tiny_a fp32 ort x1 accuracy")
    assert "other rows" in case.said
    assert case.failure


@pytest.mark.parametrize(("factor", "fails"), [(0.5, False), (1.05, False), (1.3, True)])
def test_time_fails_only_beyond_the_noise_of_both(results, factor, fails):
    before, now = copy.deepcopy(results), copy.deepcopy(results)
    before["noise"]["floor"] = now["noise"]["floor"] = 0.05
    now["candidates"][0]["latency"]["frame_ms"]["p50"] *= factor
    assert bool(failures(before, now)) is fails


def test_another_machine_is_not_compared_in_time(results):
    now = copy.deepcopy(results)
    now["machine"]["name"] = "the other box"
    now["candidates"][0]["latency"]["frame_ms"]["p50"] *= 10
    cases = compare_results(results, now)
    assert [c.name for c in cases if c.failure] == []
    assert len([c for c in cases if c.skipped]) == len(results["candidates"])


def test_a_candidate_that_is_gone_fails(results):
    now = {**results, "candidates": results["candidates"][1:]}
    assert failures(results, now) == [results["candidates"][0]["name"]]


def test_a_loss_is_exit_1_and_said(results, measured_run, tmp_path, capsys):
    write_json(tmp_path / "now.json", spoil(results, 0.3))
    with pytest.raises(CheckError, match="tiny_a fp32 ort x1 accuracy: loss"):
        gate.main([str(tmp_path / "now.json"), "--baseline", str(measured_run)])
    assert "FAILED" in capsys.readouterr().out
    gate.main([str(measured_run), "--baseline", str(measured_run)])


counts = st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(counts, counts)
def test_newcombes_interval_is_that_of_statsmodels(a, b):
    expected = confint_proportions_2indep(*a, *b, method="newcomb", compare="diff")
    assert difference_interval(*a, *b) == pytest.approx(expected, abs=1e-8)
