"""Parity notices what differs, and says by how much."""

from __future__ import annotations

import json

import numpy as np
import pytest

from core.bundle.parity_file import LossInterval, read_parity, write_parity
from core.codec import to_json
from core.errors import InputError
from export.verify.parity import compare_with_torch, first_failure, make_gate

LABELS = np.array([0, 1, 0, 1])
REFERENCE = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.6, 0.4]], np.float32)


def result(probs, name="int8"):
    return compare_with_torch(name, "val", np.arange(10, 14), np.asarray(probs, np.float32), REFERENCE, LABELS)


def test_a_perfect_copy_has_no_difference():
    same = result(REFERENCE)
    assert (same.max_dprob, same.top1_agreement, same.flips, same.accuracy_loss.value) == (0, 1, (), 0)
    assert same.accuracy == 0.75


def test_flipped_rows_are_named_by_their_number_in_the_pack():
    other = REFERENCE.copy()
    other[2] = [0.3, 0.7]
    flipped = result(other)
    sides = {"torch": {"class": 0, "probability": 0.6}, "file": {"class": 1, "probability": 0.7}}
    assert (flipped.flipped, flipped.flips) == ((12,), ({"row": 12, **sides},))
    assert flipped.accuracy_loss.value == pytest.approx(0.25)
    assert flipped.max_dprob == pytest.approx(0.3)


def test_the_gate_fails_on_lost_accuracy_and_on_distance_and_on_nan():
    near = result(REFERENCE + np.float32(1e-3))
    lost = result(REFERENCE[:, ::-1])
    nan = result(REFERENCE * np.nan)
    assert make_gate("int8", [near])["passed"]
    assert not make_gate("int8", [near, lost])["passed"]
    assert not make_gate("int8", [nan])["passed"]
    assert "p99 |dprob| is not a number" in first_failure({"checks": make_gate("int8", [nan])["checks"][1:]})
    json.dumps([make_gate("fp16", [nan]), to_json(nan)], allow_nan=False)
    assert not make_gate("fp32", [near])["passed"]


def test_one_row_of_a_small_val_is_no_evidence_and_two_are():
    labels = np.zeros(40, np.int64)
    reference = np.tile(np.array([0.51, 0.49], np.float32), (40, 1))
    for lost, passed in ((1, True), (2, False)):
        probs = reference.copy()
        probs[:lost] = [0.49, 0.51]
        few_flips = compare_with_torch("int8", "val", np.arange(40), probs, reference, labels)
        assert make_gate("int8", [few_flips])["passed"] is passed


def test_shapes_that_differ_are_refused():
    with pytest.raises(ValueError, match="against"):
        compare_with_torch("int8", "val", np.arange(4), REFERENCE[:3], REFERENCE, LABELS)


def test_the_interval_of_the_loss_is_tangos_as_published():
    """Source: Fagerland, Lydersen, Laake (2017), chapter 8: 1 row lost, 7 won, of 21: -0.517 to -0.026."""
    labels = np.zeros(21, np.int64)
    right, wrong = np.float32([0.9, 0.1]), np.float32([0.1, 0.9])
    before, after = np.tile(right, (21, 1)), np.tile(right, (21, 1))
    after[0], before[1:8] = wrong, wrong
    result = compare_with_torch("int8", "val", np.arange(21), after, before, labels)
    low, high = pytest.approx(-0.517, abs=5e-4), pytest.approx(-0.026, abs=5e-4)
    assert result.accuracy_loss == LossInterval(pytest.approx(-6 / 21), low, high)
    check = make_gate("int8", [result])["checks"][0]
    assert (check["low_95"], check["high_95"]) == (low, high)


def test_a_parity_json_reads_back_equal_and_one_of_schema_1_is_read(tmp_path):
    results = (result(REFERENCE), result(REFERENCE[:, ::-1]), result(REFERENCE * np.nan))
    write_parity(tmp_path, results)
    assert read_parity(tmp_path) == results
    body = json.loads((tmp_path / "parity.json").read_text())
    older = {"schema": 1, "rungs": body["results"]}
    (tmp_path / "parity.json").write_text(json.dumps(older))
    assert read_parity(tmp_path) == results
    (tmp_path / "parity.json").write_text("{}")
    with pytest.raises(InputError, match="holds no results"):
        read_parity(tmp_path)
