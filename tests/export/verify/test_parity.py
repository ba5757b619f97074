"""Parity notices what differs, and says by how much."""

from __future__ import annotations

import json

import numpy as np
import pytest

from export.verify.parity import compare_with_torch, first_failure, make_gate

LABELS = np.array([0, 1, 0, 1])
REFERENCE = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.6, 0.4]], np.float32)


def result(probs, name="int8"):
    return compare_with_torch(name, "val", np.arange(10, 14), np.asarray(probs, np.float32), REFERENCE, LABELS)


def test_a_perfect_copy_has_no_difference():
    same = result(REFERENCE)
    assert (same.max_dprob, same.top1_agreement, same.flips, same.pairs.loss) == (0, 1, (), 0)
    assert same.accuracy == 0.75


def test_flipped_rows_are_named_by_their_number_in_the_pack():
    other = REFERENCE.copy()
    other[2] = [0.3, 0.7]
    flipped = result(other)
    sides = {"torch": {"class": 0, "probability": 0.6}, "file": {"class": 1, "probability": 0.7}}
    body = flipped.as_json()
    assert (body["flipped"], list(body["flips"])) == ([12], [{"row": 12, **sides}])
    assert flipped.pairs.loss == pytest.approx(0.25)
    assert flipped.max_dprob == pytest.approx(0.3)


def test_the_gate_fails_on_lost_accuracy_and_on_distance_and_on_nan():
    near = result(REFERENCE + np.float32(1e-3))
    lost = result(REFERENCE[:, ::-1])
    nan = result(REFERENCE * np.nan)
    assert make_gate("int8", [near])["passed"]
    assert not make_gate("int8", [near, lost])["passed"]
    assert not make_gate("int8", [nan])["passed"]
    assert "p99 |dprob| is not a number" in first_failure({"checks": make_gate("int8", [nan])["checks"][1:]})
    json.dumps([make_gate("fp16", [nan]), nan.as_json()], allow_nan=False)
    assert not make_gate("fp32", [near])["passed"]


def test_one_row_of_a_small_val_is_no_evidence_and_two_are():
    labels = np.zeros(40, np.int64)
    reference = np.tile(np.array([0.51, 0.49], np.float32), (40, 1))
    for lost, passed in ((1, True), (2, False)):
        probs = reference.copy()
        probs[:lost] = [0.49, 0.51]
        assert (
            make_gate("int8", [compare_with_torch("int8", "val", np.arange(40), probs, reference, labels)])["passed"]
            is passed
        )


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
    expected = {"low_95": pytest.approx(-0.517, abs=5e-4), "high_95": pytest.approx(-0.026, abs=5e-4)}
    assert result.as_json()["accuracy_loss"] == {"value": pytest.approx(-6 / 21), **expected}
    check = make_gate("int8", [result])["checks"][0]
    assert {name: check[name] for name in expected} == expected
