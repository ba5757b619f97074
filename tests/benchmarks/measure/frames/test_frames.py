"""Accuracy on labeled frames, in the regions that are asked for."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.commands import frames as command
from benchmarks.measure import measured_set
from benchmarks.measure.candidates import Candidate, open_bundles
from benchmarks.measure.frames.frame_accuracy import measure_frames, summarize_frames
from benchmarks.report.frames_tables import format_frames
from benchmarks.results.candidate import NotMeasured
from benchmarks.results.frames import Counts
from core.bundle.contract import Bundle, open_bundle
from core.data.labeled_frames import LabeledObject
from core.data.pack import open_pack
from core.data.run_dir import open_run
from core.errors import InputError
from core.geometry.frame import Frame
from core.stats import wilson
from inference.runner.labeled_regions import FramesRequest
from tests.benchmarks.conftest import add_detector, make_run, make_tiny_bundle
from tests.bundles import make_bundle
from tests.inference.proof.test_frame_score import CAR, LEFT, RIGHT, score
from tests.inference.runner.test_region_choice import write_detector


def test_the_groups_of_the_summary_hold_every_object_in_their_order():
    boxes = [(0, 30, 31, 61), (5, 30, 37, 62), (60, 0, 160, 98), (90, 30, 110, 60)]
    found = summarize_frames("ort", "test", "zones", 0.5, [score([LabeledObject("car", box) for box in boxes], [])])
    assert {name: counts.n for name, counts in found.by_size.items()} == {"small": 2, "medium": 1, "large": 1}
    assert {name: counts.n for name, counts in found.by_place.items()} == {
        "at the edge": 2, "near the edge": 1, "inside": 1
    }  # fmt: skip
    assert list(found.by_size) == ["small", "medium", "large"]


def test_the_worst_frames_are_those_with_the_most_errors_whole_and_counted():
    right, wrong = (LEFT, "car"), (LEFT, "bus")
    frames = [score([LabeledObject("car", CAR)], said) for said in ([right], [wrong], [wrong, (RIGHT, "bus")], [])]
    first, *others = summarize_frames("ort", "test", "zones", 0.5, frames + 9 * [frames[1]]).worst
    assert first.describe() == "objects: 1, wrong: 1, missed: 0, false alarms: 1"
    assert [mark.describe() for mark in first.marks] == ["car, said bus", "said bus, nothing there"]
    assert len(others) == 5
    assert {errors.count for errors in others} == {1}
    assert summarize_frames("ort", "test", "zones", 0.5, frames[:1]).worst == ()
    for said, words in (([], "no region"), ([(LEFT, None)], "no class said"), ([(LEFT, "clear")], "said empty")):
        (missed,) = summarize_frames("ort", "test", "zones", 0.5, [score([LabeledObject("car", CAR)], said)]).worst
        assert missed.marks[0].describe() == f"car, {words}"


def test_the_summary_counts_all_frames_and_those_that_cannot_be_read():
    frames = [score([LabeledObject("car", CAR)], [(LEFT, label), (RIGHT, "bus")]) for label in ("car", "car", None)]
    found = summarize_frames("ort", "test", "zones", 0.5, [*frames, "unreadable"])
    assert (found.frames, found.unreadable, found.empty_regions, found.false_alarms) == (3, 1, 3, 3)
    assert found.false_alarms_per_100 == 100
    assert (found.right_n.tolist(), found.quiet_n.tolist()) == ([1, 1, 0], [0, 0, 0])
    assert found.false_alarms_interval.low < 100 < found.false_alarms_interval.high
    assert (
        found.objects
        == found.by_class["car"]
        == found.by_size["medium"]
        == Counts.of(scored for frame in frames for scored in frame.objects)
    )
    assert found.frame_of_n.tolist() == [0, 1, 2]
    # all three are of one picture: they count as one
    assert (found.objects.recall, found.objects.interval) == (2 / 3, wilson(2, 3, deff=3))
    with pytest.raises(InputError, match="none of the 1 labeled frames of test can be read: empty file"):
        summarize_frames("ort", "test", "zones", 0.5, ["empty file"])


@pytest.mark.parametrize(
    ("said", "alarms"),
    [
        ([(LEFT, "car")], "False alarms: not measured: no region was empty."),
        ([(LEFT, "car"), (RIGHT, None)], "False alarms: 0.0 (0.0-368.9) in 100 frames, 0 of 1 regions without"),
    ],
)
def test_false_alarms_were_not_measured_where_no_region_was_empty(said, alarms):
    frames = [score([LabeledObject("car", CAR)], said)]
    assert alarms in format_frames({"tiny": summarize_frames("ort", "test", "zones", 0.5, frames)})


def candidate(bundle: Bundle) -> Candidate:
    return Candidate("tiny", "fp32", "ort", 1, bundle)


def measured(bundle: Path, write_pack: Path, tmp_path: Path, *more: str) -> dict:
    out = tmp_path / "frames.json"
    command.main([str(bundle), "--frames-of", str(write_pack), "--backend", "ort", "--out", str(out), *more])
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
    assert re.search(rf"^\| all +\| +{by_box['objects']['n']} \|", capsys.readouterr().out, re.MULTILINE)
    for found in (by_zone, by_box):
        assert found["objects"]["outcomes"]["right"] == found["objects"]["n"]
        assert found["false_alarms"] == 0


def test_the_curve_holds_the_shipped_threshold_as_the_counts_have_it(packed, tiny, tmp_path, capsys):
    every = measured(tiny, packed, tmp_path, "--labeled-boxes")
    thresholds = [point["threshold"] for point in every["risk_curve"]]
    assert thresholds == sorted(thresholds, reverse=True)
    assert (every["risk_curve"][-1]["coverage"], every["risk_curve"][-1]["risk"]) == (1, 0)
    middle = thresholds[len(thresholds) // 2]
    replace(open_bundle(tiny), abstain_threshold=middle).save()
    some = measured(tiny, packed, tmp_path, "--labeled-boxes")
    (shipped,) = [point for point in some["risk_curve"] if point["shipped"]]
    outcomes, silences = some["objects"]["outcomes"], some["objects"]["silences"]
    assert silences == {"UNKNOWN": outcomes["silent"]}
    assert 0 < outcomes["silent"] == round((1 - shipped["coverage"]) * some["objects"]["n"])
    assert re.search(rf"\| {middle:.3f} \(shipped\) +\| +{100 * shipped['coverage']:.1f} ", capsys.readouterr().out)


def test_a_terminal_of_80_columns_holds_the_table_and_a_file_holds_markdown(monkeypatch):
    found = {
        "tiny": summarize_frames("ort", "test", "zones", 0.5, [score([LabeledObject("car", CAR)], [(LEFT, "car")])])
    }
    assert "| car           |" in format_frames(found)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "dumb")  # no escape codes, which have no width
    monkeypatch.setenv("COLUMNS", "80")
    text = format_frames(found)
    assert max(map(len, text.splitlines())) <= 80
    assert re.search(r"^ all +1 +100.0 \(20.7-100.0\) ", text, re.MULTILINE), "a number is never broken"


ON_EVERY_OBJECT, NOWHERE = (6, 14, 42, 50, 0.9, 0), (60, 14, 90, 50, 0.9, 0)
"""In pixels of 64 x 96: the rectangle that two of three frames show, and a place where none does."""


@pytest.fixture
def tiny(tmp_path) -> Path:
    make_tiny_bundle(tmp_path / "tiny", "tiny_a", ("fp32",))
    return tmp_path / "tiny"


def test_the_boxes_of_a_detector_in_front_are_scored_against_the_labels(packed, tiny, tmp_path, capsys):
    file = write_detector(tmp_path / "d.onnx", ON_EVERY_OBJECT)
    found = measured(tiny, packed, tmp_path, "--detector", str(file))
    objects = found["objects"]
    assert objects["n"] == objects["outcomes"]["right"] > 0
    assert found["empty_regions"] == found["frames"] - objects["n"]
    assert "the boxes of d.onnx" in capsys.readouterr().out


def test_bundles_of_which_one_holds_a_detector_are_said_not_to_compare(packed, tmp_path, caplog):
    run = make_run(tmp_path / "run", precisions=("fp32",))
    add_detector(run / "tiny_a" / "bundle", NOWHERE)
    command.main([str(run), "--frames-of", str(packed), "--backend", "ort"])
    assert "cannot be compared, the regions differ: the boxes of the detector in the bundle; the labeled" in caplog.text


def test_an_object_that_the_detector_missed_has_no_region(packed, tiny, tmp_path):
    file = write_detector(tmp_path / "d.onnx", NOWHERE)
    objects = measured(tiny, packed, tmp_path, "--detector", str(file))["objects"]
    assert objects["n"] == objects["outcomes"]["no_region"] > 0


def test_the_detector_in_the_bundle_is_measured_unless_something_else_is_asked_for(packed, tiny, tmp_path):
    add_detector(tiny, NOWHERE)
    own = measured(tiny, packed, tmp_path)
    assert own["regions"] == "the boxes of the detector in the bundle"
    assert own["objects"]["outcomes"]["no_region"] == own["objects"]["n"] > 0
    camera, other = tmp_path / "camera.json", write_detector(tmp_path / "d.onnx", ON_EVERY_OBJECT)
    camera.write_text('{"zones": {"left": [0, 0, 0.5, 1]}}')
    for asked in (["--labeled-boxes"], ["--camera", str(camera)], ["--detector", str(other)]):
        assert measured(tiny, packed, tmp_path, *asked)["objects"]["outcomes"]["no_region"] == 0


def test_frames_that_are_no_sequence_are_each_detected_and_never_tracked(packed, tiny, tmp_path):
    (tmp_path / "camera.json").write_text('{"regions": {"detector": "d.onnx", "every": 3}}')
    write_detector(tmp_path / "d.onnx", ON_EVERY_OBJECT)
    _, regions = FramesRequest(camera=tmp_path / "camera.json").regions(
        open_pack(packed), [], open_bundle(tiny), "ort", 1
    )
    picture = np.zeros((64, 96, 3), np.uint8)
    names = [regions.regions_of(Frame(i, 0, picture), picture).names for i in range(3)]
    assert names == [["track1"], ["track2"], ["track3"]]


def test_labeled_boxes_and_a_detector_are_refused(tmp_path):
    with pytest.raises(InputError, match="give one of the two"):
        FramesRequest(detector=tmp_path / "d.onnx", labeled=True)


def test_a_run_is_measured_on_a_pack_with_frames_alone(packed, tmp_path):
    run = make_run(tmp_path / "run", ("tiny_a",), ("fp32",))
    with pytest.raises(InputError, match="holds no labeled frames"):
        command.main([str(run)])
    with pytest.raises(InputError, match="--frames-of"):
        command.main([str(run / "tiny_a" / "bundle")])
    with pytest.raises(InputError, match="has no zones"):
        (tmp_path / "camera.json").write_text("{}")
        command.main([str(run), "--frames-of", str(packed), "--camera", str(tmp_path / "camera.json")])


def test_the_regions_are_the_camera_s_else_the_packs_zones_else_its_boxes(packed, tmp_path):
    camera = tmp_path / "camera.json"
    camera.write_text('{"zones": {"left": [0, 0, 0.5, 1]}}')
    boxes = open_pack(packed)
    zones = replace(boxes, metadata=boxes.metadata | {"zones": {"a": [0, 0, 1, 1], "b": [0, 0, 0.5, 1]}})
    frames = FramesRequest().frames(boxes)
    bundle = make_bundle(tmp_path / "bundle")
    names = [
        tuple(request.regions(write_pack, frames, bundle, "ort", 1)[1].names)
        for request, write_pack in (
            (FramesRequest(camera=camera), zones),
            (FramesRequest(), zones),
            (FramesRequest(labeled=True), zones),
            (FramesRequest(), boxes),
        )
    ]
    assert names == [("left",), ("a", "b"), ("boxes",), ("boxes",)]


def test_too_many_frames_are_a_random_part_in_their_order(packed):
    every, some = (FramesRequest(split="train", most=most).frames(open_pack(packed)) for most in (None, 5))
    assert len(some) == 5
    assert some == [frame for frame in every if frame in some] != every[:5]


def test_a_backend_that_does_not_open_for_so_many_regions_is_not_measured(packed, tmp_path, monkeypatch):
    run = open_run(make_run(tmp_path / "run", ("tiny_a",), ("fp32",)))

    def refuse(*_, **__):
        raise InputError("there is no engine of batch 2")

    monkeypatch.setattr(measured_set, "open_classifier", refuse)
    (bundle,) = open_bundles(run).values()
    refused = candidate(bundle)
    found = measure_frames([refused], open_pack(packed), FramesRequest())
    assert found == {("tiny", "fp32"): NotMeasured("there is no engine of batch 2")}
