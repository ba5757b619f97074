"""Accuracy on labeled frames: each object has one outcome, a place without one is quiet or a false alarm."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.commands import frames as command
from benchmarks.measure import frames_accuracy
from benchmarks.measure.frames_accuracy import Counts, Outcome, ScoredObject, score_frame, score_frames, summarize
from core.data.frames import LabeledFrame, LabeledObject
from core.errors import InputError
from core.geometry.occupancy import is_empty, occupant
from core.stats import wilson
from inference.frame.decision import Verdict
from inference.frame.states import State
from tests.benchmarks.conftest import make_run, make_tiny_bundle
from tests.bundles import CLASSES
from tests.training.data.detection_sets import write_kitti
from training.data.listing import Options
from training.data.pack_writer import pack

SIZE = (200, 100)
LEFT, RIGHT = (0, 0, 100, 100), (100, 0, 200, 100)
CAR, BUS, EDGE = (10, 10, 50, 50), (110, 10, 190, 90), (96, 10, 110, 40)


def verdict(rect: tuple, label: str | None) -> Verdict:
    state = State.UNKNOWN if label is None else State.OK
    return Verdict("zone", rect, state, label, label or "car", 0.9, label or "car")


def score(objects: list[LabeledObject], said: list[tuple[tuple, str | None]], fixed: bool = True):
    frame = LabeledFrame("a.png", "a", "test", SIZE, tuple(objects))
    return score_frame(frame, [verdict(*one) for one in said], "clear", fixed=fixed)


@pytest.mark.parametrize(
    ("label", "outcome"),
    [("car", Outcome.RIGHT), ("bus", Outcome.WRONG), (None, Outcome.SILENT), ("clear", Outcome.BACKGROUND)],
)
def test_an_object_is_what_the_region_that_shows_it_says(label, outcome):
    scored = score([LabeledObject("car", CAR)], [(LEFT, label), (RIGHT, None)])
    assert [one.outcome for one in scored.objects] == [outcome]
    assert (len(scored.false_alarms), scored.quiet) == (0, 1)


def test_an_object_that_no_region_shows_has_none():
    scored = score([LabeledObject("car", CAR)], [(RIGHT, "car")])
    assert [one.outcome for one in scored.objects] == [Outcome.NO_REGION]
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
    assert [one.label for one in scored.objects] == ["car"]


corners = st.tuples(*[st.integers(0, 60)] * 2, *[st.integers(1, 40)] * 2).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)
objects = st.builds(LabeledObject, st.sampled_from(["car", "bus"]), corners, st.sampled_from([None, None, "tiny"]))


@given(st.lists(objects, max_size=4), st.lists(st.tuples(corners, st.sampled_from(["car", "bus", "clear", None]))))
def test_scores_are_those_of_the_rule_read_aloud(labeled, said):
    scored = score(labeled, said)
    boxes = [one.box for one in labeled]
    empty = [label for rect, label in said if occupant(rect, boxes, fixed=True) is None and is_empty(rect, boxes)]
    assert len(scored.false_alarms) == sum(label in ("car", "bus") for label in empty)
    assert len(scored.false_alarms) + scored.quiet == len(empty)
    counted = [at for at, one in enumerate(labeled) if one.ignored is None]
    assert len(scored.objects) == len(counted)
    for at, one in zip(counted, scored.objects, strict=True):
        own = [label for rect, label in said if occupant(rect, boxes, fixed=True) == at]
        if one.label in own:
            assert one.outcome == Outcome.RIGHT
        if one.outcome == Outcome.NO_REGION:
            assert not own
        if one.outcome in (Outcome.WRONG, Outcome.SILENT, Outcome.BACKGROUND):
            assert one.said in own or one.said is None
            assert (one.said is not None) == (one.outcome == Outcome.WRONG)


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
    one = ScoredObject("car", box, SIZE, Outcome.RIGHT, "car")
    assert (one.size, one.place) == (size, place)


def test_the_summary_counts_all_frames_and_those_that_cannot_be_read():
    frames = [score([LabeledObject("car", CAR)], [(LEFT, label), (RIGHT, "bus")]) for label in ("car", "car", None)]
    found = summarize("test", "zones", [*frames, "unreadable"])
    assert (found.frames, found.unreadable, found.empty_regions, found.false_alarms) == (3, 1, 3, 3)
    assert found.false_alarms_per_100 == 100
    assert found.false_alarms_interval.low < 100 < found.false_alarms_interval.high
    assert (
        found.objects
        == found.by_class["car"]
        == found.by_size["medium"]
        == Counts.of(one for frame in frames for one in frame.objects)
    )
    assert (found.objects.recall, found.objects.interval) == (2 / 3, wilson(2, 3))
    with pytest.raises(InputError, match="none of the 1 labeled frames of test can be read: empty file"):
        summarize("test", "zones", ["empty file"])


@pytest.mark.parametrize(("fixed", "outcome"), [(True, Outcome.NO_REGION), (False, Outcome.SILENT)])
def test_boxes_and_zones_are_each_held_against_their_own_rule(monkeypatch, fixed, outcome):
    monkeypatch.setattr(frames_accuracy, "load_frame", lambda pack, frame: np.zeros((100, 200, 3), np.uint8))
    result = SimpleNamespace(verdicts=(verdict(CAR, None),), timings=SimpleNamespace(total_ns=2_000_000))
    processor = SimpleNamespace(regions=SimpleNamespace(fixed=fixed), process=lambda frame: result)
    objects = LabeledObject("bus", (0, 0, 100, 100)), LabeledObject("car", CAR)
    (scored,) = score_frames(processor, None, [LabeledFrame("a.png", "a", "test", SIZE, objects)], "clear")
    assert scored.objects[1].outcome == outcome
    assert scored.took_ms == 2.0


@pytest.fixture(scope="module")
def packed(tmp_path_factory) -> Path:
    """Frames with a red, a green or no rectangle on blue: the tiny bundle tells the colors apart."""
    root = tmp_path_factory.mktemp("frames")
    sizes = {f"{i}.png": (160, 80) for i in range(30)}
    names = CLASSES[:2]
    boxes = {name: [(names[i % 2], (10, 10, 70, 70))] for i, name in enumerate(sizes) if i % 3}
    write_kitti(root / "set", sizes, boxes)
    for i, name in enumerate(sizes):
        noise = np.random.default_rng(i).integers(0, 60, (80, 160, 3), np.uint8)
        frame = noise + np.array([190, 0, 0], np.uint8)
        if i % 3:
            frame[10:70, 10:70] = noise[10:70, 10:70] + np.array([[0, 0, 190], [0, 190, 0]], np.uint8)[i % 2]
        cv2.imwrite(str(root / "set" / "training" / "image_2" / name), frame)
    return pack(str(root / "set"), root / "pack", Options(size_px=32, background_class="clear")).path


def measured(bundle: Path, pack: Path, tmp_path: Path, *more: str) -> dict:
    out = tmp_path / "frames.json"
    command.main([str(bundle), "--frames-of", str(pack), "--backend", "ort", "--out", str(out), *more])
    (body,) = json.loads(out.read_text()).values()
    return body


def test_frames_are_measured_through_the_cars_own_processor(packed, tmp_path, capsys):
    bundle, camera = tmp_path / "bundle", tmp_path / "camera.json"
    make_tiny_bundle(bundle, "tiny_a", ("fp32",))
    camera.write_text('{"zones": {"left": [0, 0, 0.5, 1], "right": [0.5, 0, 1, 1]}}')
    by_zone = measured(bundle, packed, tmp_path, "--camera", str(camera))
    by_box = measured(bundle, packed, tmp_path, "--labeled-boxes")
    assert by_zone["objects"]["n"] == by_box["objects"]["n"] == sum(by_zone["objects"]["outcomes"].values()) > 0
    assert by_zone["empty_regions"] == 2 * by_zone["frames"] - by_zone["objects"]["n"]
    assert by_box["empty_regions"] == 0
    assert f"| all | {by_box['objects']['n']} |" in capsys.readouterr().out
    assert by_box["objects"]["recall"] == 1.0
    assert by_zone["objects"]["recall"] == 1.0
    assert by_zone["false_alarms"] == 0


def test_a_run_is_measured_on_a_pack_with_frames_alone(packed, tmp_path):
    run = make_run(tmp_path / "run", ("tiny_a",), ("fp32",))
    with pytest.raises(InputError, match="holds no labeled frames"):
        command.main([str(run)])
    with pytest.raises(InputError, match="--frames-of"):
        command.main([str(run / "tiny_a" / "bundle")])
    with pytest.raises(InputError, match="has no zones"):
        (tmp_path / "camera.json").write_text("{}")
        command.main([str(run), "--frames-of", str(packed), "--camera", str(tmp_path / "camera.json")])
