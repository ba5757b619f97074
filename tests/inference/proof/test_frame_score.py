"""The score of a labeled frame: each object has one outcome, a place without one is quiet or a false alarm."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.results.frames import Counts
from core.bundle.abstain import AbstainRule
from core.data.labeled_frames import LabeledFrame, LabeledObject
from core.geometry.occupancy import is_empty, occupant
from inference.frame.decision import Verdict
from inference.frame.states import State
from inference.proof import frame_score
from inference.proof.frame_score import Outcome, ScoredObject, count_answers, score_frame, score_frames

SIZE = (200, 100)
LEFT, RIGHT = (0, 0, 100, 100), (100, 0, 200, 100)
CAR, BUS, EDGE = (10, 10, 50, 50), (110, 10, 190, 90), (96, 10, 110, 40)


def verdict(rect: tuple, label: str | None) -> Verdict:
    state = State.UNKNOWN if label is None else State.OK
    return Verdict("zone", rect, state, label, label or "car", 0.9, label or "car")


def score(objects: list[LabeledObject], said: list[tuple[tuple, str | None]], fixed: bool = True):
    frame = LabeledFrame("a.png", "a", "test", SIZE, tuple(objects))
    return score_frame(frame, [verdict(*saying) for saying in said], "clear", fixed=fixed)


@pytest.mark.parametrize(
    ("label", "outcome"),
    [("car", Outcome.RIGHT), ("bus", Outcome.WRONG), (None, Outcome.SILENT), ("clear", Outcome.BACKGROUND)],
)
def test_an_object_is_what_the_region_that_shows_it_says(label, outcome):
    scored = score([LabeledObject("car", CAR)], [(LEFT, label), (RIGHT, None)])
    assert [scored_object.outcome for scored_object in scored.objects] == [outcome]
    assert (len(scored.false_alarms), scored.quiet) == (0, 1)


def test_an_object_that_no_region_shows_has_none():
    scored = score([LabeledObject("car", CAR)], [(RIGHT, "car")])
    assert [scored_object.outcome for scored_object in scored.objects] == [Outcome.NO_REGION]
    assert len(scored.false_alarms) == 1


def test_a_region_says_one_class_of_two_objects():
    both = [LabeledObject("car", CAR), LabeledObject("bus", (5, 5, 95, 95))]
    assert [o.outcome for o in score(both, [(LEFT, "bus")]).objects] == [Outcome.NO_REGION, Outcome.RIGHT]
    assert [o.outcome for o in score(both, [(LEFT, "car")]).objects] == [Outcome.RIGHT, Outcome.WRONG]
    boxes = [(CAR, "car"), ((5, 5, 95, 95), "bus")]
    assert [o.outcome for o in score(both, boxes, fixed=False).objects] == [Outcome.RIGHT, Outcome.RIGHT]


@pytest.mark.parametrize("label", ["car", "clear", None])
def test_a_region_with_a_part_of_an_object_or_one_to_ignore_is_not_scored(label):
    objects = [LabeledObject("car", EDGE), LabeledObject("van", BUS, "dropped by the class map")]
    scored = score(objects, [(RIGHT, label)])
    assert (len(scored.false_alarms), scored.quiet) == (0, 0)
    assert [scored_object.label for scored_object in scored.objects] == ["car"]


corners = st.tuples(*[st.integers(0, 60)] * 2, *[st.integers(1, 40)] * 2).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)
objects = st.builds(LabeledObject, st.sampled_from(["car", "bus"]), corners, st.sampled_from([None, None, "tiny"]))


@given(st.lists(objects, max_size=4), st.lists(st.tuples(corners, st.sampled_from(["car", "bus", "clear", None]))))
def test_scores_are_those_of_the_rule_read_aloud(labeled, said):
    scored = score(labeled, said)
    boxes = [labeled_object.box for labeled_object in labeled]
    empty = [label for rect, label in said if occupant(rect, boxes, fixed=True) is None and is_empty(rect, boxes)]
    assert len(scored.false_alarms) == sum(label in ("car", "bus") for label in empty)
    assert len(scored.false_alarms) + scored.quiet == len(empty)
    counted = [at for at, labeled_object in enumerate(labeled) if labeled_object.ignored is None]
    assert len(scored.objects) == len(counted)
    for at, found in zip(counted, scored.objects, strict=True):
        own = [label for rect, label in said if occupant(rect, boxes, fixed=True) == at]
        if found.label in own:
            assert found.outcome == Outcome.RIGHT
        if found.outcome == Outcome.NO_REGION:
            assert not own
        if found.outcome in (Outcome.WRONG, Outcome.SILENT, Outcome.BACKGROUND):
            assert found.said in own or found.said is None
            assert (found.said is not None) == (found.outcome == Outcome.WRONG)


quiet = st.sampled_from([None, None, (State.BLIND, "black"), (State.UNKNOWN, "too small")])
sayings = st.lists(st.tuples(corners, st.sampled_from(["car", "bus", "clear"]), st.floats(0, 1), quiet))


def decided(sayings: list[tuple], threshold: float) -> list[Verdict]:
    """Return the verdicts of regions that say (rect, top, probability, state and reason) under an abstain threshold.

    state and reason: None where only the threshold keeps the region silent.
    """
    verdicts = []
    for rect, top, prob, quiet in sayings:
        accepted = State.OK if AbstainRule(threshold).accepts(prob) else State.UNKNOWN
        state, reason = quiet or (accepted, None)
        label = top if state is State.OK else None
        verdicts.append(Verdict("zone", rect, state, label, top, prob, top, reason=reason))
    return verdicts


@given(st.lists(objects, max_size=4), sayings, st.floats(0, 1), st.floats(0, 1), st.booleans())
def test_the_limits_of_an_object_tell_its_outcome_at_every_threshold(labeled, said, threshold, other, fixed):
    frame = LabeledFrame("a.png", "a", "test", SIZE, tuple(labeled))
    here, there = (score_frame(frame, decided(said, t), "clear", fixed=fixed).objects for t in (threshold, other))
    assert [(found.answered_up_to, found.right_up_to) for found in here] == [
        (found.answered_up_to, found.right_up_to) for found in there
    ]
    rule = AbstainRule(threshold)
    for found in here:
        assert found.has_region or found.outcome in (Outcome.NO_REGION, Outcome.RIGHT)
        assert rule.accepts(found.right_up_to) == (found.outcome == Outcome.RIGHT)
        assert rule.accepts(found.answered_up_to) == (found.outcome not in (Outcome.SILENT, Outcome.NO_REGION))
        assert (found.silence is not None) == (found.outcome == Outcome.SILENT)
    answered = [found for found in here if found.has_region and rule.accepts(found.answered_up_to)]
    wrong = sum(found.outcome != Outcome.RIGHT for found in answered)
    assert [counts.tolist() for counts in count_answers(here, [threshold])] == [[len(answered)], [wrong]]


@pytest.mark.parametrize(
    ("quiet", "silence", "limit"),
    [
        (None, "UNKNOWN", 0.4),
        ((State.BLIND, "black"), "black", 0.0),
        ((State.UNKNOWN, "too small"), "too small", 0.0),
        ((State.UNPROVED, None), "UNPROVED", 0.0),
    ],
)
def test_a_silent_object_says_whether_a_threshold_or_something_else_keeps_it_silent(quiet, silence, limit):
    frame = LabeledFrame("a.png", "a", "test", SIZE, (LabeledObject("car", CAR),))
    (found,) = score_frame(frame, decided([(LEFT, "car", 0.4, quiet)], 0.5), "clear", fixed=True).objects
    assert (found.outcome, found.silence, found.right_up_to) == (Outcome.SILENT, silence, limit)
    assert Counts.of([found]).not_seen == (silence != "UNKNOWN")


@pytest.mark.parametrize(
    ("box", "size", "place"),
    [
        ((0, 30, 31, 61), "small", "at the edge"),
        ((5, 30, 37, 62), "medium", "near the edge"),
        ((30, 30, 61, 61), "small", "inside"),
        ((30, 0, 130, 100), "large", "at the edge"),
    ],
)
def test_size_and_place_of_an_object(box, size, place):
    found = ScoredObject("car", box, SIZE, Outcome.RIGHT, "car")
    assert (found.size, found.place) == (size, place)


@pytest.mark.parametrize(("fixed", "outcome"), [(True, Outcome.NO_REGION), (False, Outcome.SILENT)])
def test_boxes_and_zones_are_each_held_against_their_own_rule(monkeypatch, fixed, outcome):
    monkeypatch.setattr(frame_score, "load_frame", lambda pack, frame: np.zeros((100, 200, 3), np.uint8))
    result = SimpleNamespace(verdicts=(verdict(CAR, None),), timings=SimpleNamespace(total_ns=2_000_000))
    processor = SimpleNamespace(region_source=SimpleNamespace(fixed=fixed), process=lambda frame: result)
    objects = LabeledObject("bus", (0, 0, 100, 100)), LabeledObject("car", CAR)
    bundle, frame = SimpleNamespace(background="clear"), LabeledFrame("a.png", "a", "test", SIZE, objects)
    ((scored,),) = score_frames([(bundle, processor)], None, [frame])
    assert scored.objects[1].outcome == outcome
    assert scored.took_ms == 2.0
