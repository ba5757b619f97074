"""Smoothing: by time and not by frames, with a margin and a hold; blindness, a frozen picture and gaps begin anew."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.bundle.abstain import AbstainRule
from core.errors import InputError
from inference.frame.decider import Decider
from inference.frame.quality import QualityReport
from inference.frame.regions import Regions
from inference.frame.smoothing import NAMES_KEPT, SmoothingConfig, TemporalSmoother, read_smoothing
from inference.frame.states import State

CLASSES = ("car", "truck", "clear")
CAR, TRUCK = (0.8, 0.1, 0.1), (0.1, 0.8, 0.1)


def drive(rows, every_ms, smoothing, *, threshold=0.0, blind=(), frozen=()):
    """Return the verdict on one zone after each row."""
    rule, seen = AbstainRule(threshold), []
    decider, regions = Decider(CLASSES, rule, TemporalSmoother(smoothing, rule)), Regions(["z"], [(0, 0, 1, 1)], {})
    for i, row in enumerate(rows):
        quality = QualityReport(["black" if i in blind else None], i in frozen)
        verdicts, _, _ = decider.decide(regions, np.array([row], np.float32), quality, i * every_ms)
        seen.append(verdicts[0])
    return seen


def labels(seen):
    return [v.label for v in seen]


def test_without_smoothing_each_frame_stands_alone():
    seen = drive([CAR, TRUCK, CAR], 33, SmoothingConfig(0, 0, 0))
    assert labels(seen) == ["car", "truck", "car"]


def test_one_odd_frame_changes_nothing_but_raw():
    seen = drive([CAR] * 5 + [TRUCK] + [CAR] * 5, 33, SmoothingConfig())
    assert set(labels(seen)) == {"car"}
    assert seen[5].top_unsmoothed == "truck"


@pytest.mark.parametrize("every_ms", [10, 20, 40])
def test_the_time_to_switch_does_not_depend_on_the_frame_rate(every_ms):
    n = 1000 // every_ms
    seen = labels(drive([CAR] * n + [TRUCK] * n, every_ms, SmoothingConfig(smooth_ms=200, margin=0, hold_ms=0)))
    delay_ms = (seen.index("truck") - n + 1) * every_ms
    assert abs(delay_ms - 200 * np.log(2)) <= every_ms


def test_within_the_margin_the_class_that_is_said_stays():
    near = [(0.48, 0.52, 0.0), (0.52, 0.48, 0.0)] * 5
    assert set(labels(drive([CAR, *near], 33, SmoothingConfig(0, 0.1, 0)))) == {"car"}
    assert set(labels(drive([CAR, *near], 33, SmoothingConfig(0, 0.0, 0)))) == {"car", "truck"}


def test_a_class_is_held_for_its_time():
    seen = labels(drive([CAR] + [TRUCK] * 9, 50, SmoothingConfig(0, 0, 300)))
    assert seen.index("truck") * 50 == 300


def test_over_a_threshold_of_a_half_the_margin_still_keeps_a_class_from_its_neighbour():
    near = [(0.48, 0.52, 0.0), (0.52, 0.48, 0.0)] * 5
    assert set(labels(drive([CAR, *near], 33, SmoothingConfig(0, 0.1, 0), threshold=0.5))) == {"car", None}
    assert set(labels(drive([CAR, *near], 33, SmoothingConfig(0, 0.0, 0), threshold=0.5))) == {"car", "truck"}


def test_over_a_threshold_of_a_half_the_hold_still_keeps_other_classes_away():
    seen = labels(drive([CAR] + [TRUCK] * 9, 50, SmoothingConfig(0, 0, 300), threshold=0.5))
    assert seen[:6] == ["car"] + [None] * 5
    assert seen[6:] == ["truck"] * 4


def test_what_was_never_said_gives_way_at_once():
    seen = drive([(0.45, 0.4, 0.15), TRUCK], 33, SmoothingConfig(0, 0.5, 10_000), threshold=0.5)
    assert labels(seen) == [None, "truck"]


def test_what_is_held_is_not_said_under_the_threshold():
    seen = drive([CAR] + [(0.4, 0.35, 0.25)] * 3, 50, SmoothingConfig(0, 0, 10_000), threshold=0.6)
    assert (seen[-1].state, seen[-1].label) == (State.UNKNOWN, None)


def test_blindness_begins_anew():
    seen = drive([CAR] * 5 + [TRUCK] * 2, 33, SmoothingConfig(), blind={5})
    assert (seen[5].state, seen[5].label, seen[6].label) == (State.BLIND, None, "truck")


def test_a_frozen_picture_begins_anew():
    seen = drive([CAR] * 5 + [TRUCK] * 2, 33, SmoothingConfig(), frozen={5})
    assert (seen[5].state, seen[5].label, seen[6].label) == (State.STALE, None, "truck")


def test_tracks_that_ended_are_dropped():
    smoother = TemporalSmoother(SmoothingConfig(forget_ms=100), AbstainRule(0.0))
    for i in range(10 * NAMES_KEPT):
        smoother.update(f"track{i}", list(CAR), i * 33.0)
    assert len(smoother._regions) <= NAMES_KEPT


def test_a_track_that_goes_on_keeps_its_class_when_others_are_dropped():
    smoother, now_ms = TemporalSmoother(SmoothingConfig(), AbstainRule(0.0)), 0.0
    for i in range(2 * NAMES_KEPT):
        now_ms = i * 500.0
        smoother.update(f"track{i}", list(TRUCK), now_ms)
        smoother.update("mine", list(CAR), now_ms)
    assert smoother.update("mine", [0.4, 0.5, 0.1], now_ms + 33).leader == 0


def test_a_gap_begins_anew():
    assert labels(drive([CAR, TRUCK], 2000, SmoothingConfig())) == ["car", "truck"]


def test_a_network_that_answers_nan_is_unknown_and_leaves_nothing_behind():
    seen = drive([CAR, (float("nan"),) * 3, TRUCK], 33, SmoothingConfig(), threshold=0.5)
    assert [v.state for v in seen] == [State.OK, State.UNKNOWN, State.OK]


@given(
    st.lists(st.lists(st.floats(0.01, 1), min_size=3, max_size=3), min_size=1, max_size=30),
    st.floats(0, 1000),
    st.floats(0, 1),
    st.floats(0, 1000),
    st.floats(0, 1),
    st.floats(-50, 500),
)
def test_a_class_is_said_only_in_ok_and_never_under_the_threshold(rows, smooth, margin, hold, threshold, every_ms):
    rows = [np.array(r) / sum(r) for r in rows]
    for verdict in drive(rows, every_ms, SmoothingConfig(smooth, margin, hold), threshold=threshold):
        assert 0 <= verdict.prob <= 1 + 1e-6
        assert (verdict.label is None) == (verdict.state is not State.OK)
        assert verdict.label is None or (verdict.prob >= threshold and verdict.label == verdict.top)


def test_decision_json_is_read_back(tmp_path):
    (tmp_path / "decision.json").write_text('{"smooth_ms": 80, "hold_ms": 0}')
    assert read_smoothing(tmp_path / "decision.json") == SmoothingConfig(smooth_ms=80, hold_ms=0)


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ([], "object"),
        ({"smooth": 1}, "smooth"),
        ({"hold_ms": -1}, "hold_ms"),
        ({"margin": 2}, "margin"),
        ({"smooth_ms": True}, "smooth_ms"),
        ({"smooth_ms": "fast"}, "smooth_ms"),
    ],
)
def test_what_is_wrong_is_named_with_the_file(tmp_path, body, named):
    (tmp_path / "decision.json").write_text(json.dumps(body))
    with pytest.raises(InputError, match=named) as error:
        read_smoothing(tmp_path / "decision.json")
    assert "decision.json" in str(error.value)
