"""--boxes: each frame's own rectangles are classified, exactly as packed crops are; what is wrong is named."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import InputError
from core.geometry.frame import Frame
from core.geometry.preprocess import decode, fill
from inference.backends import open_backend
from inference.commands.run import read_arguments, run_from_args
from inference.frame.boxes import read_boxes
from tests.bundles import make_bundle
from tests.inference.sources.videos import noise, write_images, write_video


def written(tmp_path, *lines):
    path = tmp_path / "boxes.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return path


def run(bundle, source, boxes, out):
    arguments = [bundle.path, "--source", source, "--boxes", boxes, "--out", out, "--no-overlay", "--precision", "fp32"]
    summary = run_from_args(read_arguments([str(a) for a in arguments]))
    return summary, [json.loads(line) for line in (out / "decisions.jsonl").read_text().splitlines()]


def test_the_boxes_of_a_film_are_those_of_their_frame(tmp_path):
    boxes = written(
        tmp_path,
        {"frame": 1, "boxes": [{"rect": [0, 0, 20, 20]}, {"rect": [30, 10.4, 200, 50], "name": "t7"}]},
        {"frame": 3, "boxes": []},
    )
    _, lines = run(make_bundle(tmp_path / "b"), write_video(tmp_path / "v.mp4", frames=4), boxes, tmp_path / "out")
    assert [len(line["zones"]) for line in lines] == [0, 2, 0, 0]
    assert lines[1]["zones"]["t7"]["rect"] == [30, 10, 80, 50]


def test_a_box_through_the_runner_is_answered_as_its_crop_and_scored(tmp_path):
    images, bundle = write_images(tmp_path / "images", 2), make_bundle(tmp_path / "b")
    rects = [(3, 4, 40, 45), (10, 0, 70, 30)]
    boxes = [{"rect": rect, "truth": "car"} for rect in rects]
    path = written(tmp_path, *[{"file": f"car/{i}.png", "boxes": boxes} for i in range(2)])
    summary, lines = run(bundle, images, path, tmp_path / "out")
    backend, right = open_backend("ort", bundle, "fp32", batch=2), 0
    for i, line in enumerate(lines):
        fill(backend.input_nhwc, decode((images / "car" / f"{i}.png").read_bytes()), rects, bundle.geometry)
        probs = backend.infer(2)
        right += sum(bundle.classes[k] == "car" for k in probs.argmax(1))
        assert [z["prob"] for z in line["zones"].values()] == pytest.approx(probs.max(1), abs=1e-4)
    assert summary["accuracy"]["regions"] == 4
    assert summary["accuracy"]["raw"] == right / 4


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ([], "boxes"),
        ({"frame": 0}, "boxes"),
        ({"boxes": []}, "frame"),
        ({"frame": True, "boxes": []}, "frame"),
        ({"file": 3, "boxes": []}, "file"),
        ({"frame": 0, "boxes": [[1, 2, 3, 4]]}, "box0"),
        ({"frame": 0, "boxes": [{"rect": [1, 2, 3]}]}, "four numbers"),
        ({"frame": 0, "boxes": [{"rect": [5, 0, 5, 9]}]}, "empty"),
        ({"frame": 0, "boxes": [{"rect": [0.1, 0.1, 0.4, 0.4]}]}, "empty in whole pixels"),
        ('{"frame": 0, "boxes": [{"rect": [0, 0, NaN, 9]}]}', "four numbers"),
        ({"frame": 0, "boxes": [{"rect": [0, 0, 10**400, 9]}]}, "four numbers"),
        ({"frame": 0, "boxes": [{"rect": [0, 0, 1, 1], "truth": 3}]}, "truth"),
        ({"frame": 0, "boxes": [{"rect": [0, 0, 1, 1], "name": "a\n"}]}, "name of box0"),
        ({"frame": 0, "boxes": [{"rect": [0, 0, 1, 1], "name": "\ud800"}]}, "name of box0"),
        ({"frame": 0, "boxes": [{"rect": [0, 0, 1, 1]}] * 33}, "33 boxes"),
        ({"frame": 0, "boxes": [{"rect": [0, 0, 1, 1], "name": "a"}] * 2}, "one name"),
    ],
)
def test_what_is_wrong_is_named_with_the_file_and_the_line(tmp_path, line, named):
    with pytest.raises(InputError, match=named) as error:
        read_boxes(written(tmp_path, {"frame": 7, "boxes": []}, line))
    assert "boxes.jsonl line 2" in str(error.value)


def test_a_frame_has_one_line(tmp_path):
    with pytest.raises(InputError, match="already"):
        read_boxes(written(tmp_path, {"frame": 7, "boxes": []}, {"frame": 7, "boxes": []}))


@pytest.mark.parametrize("name", ["missing.jsonl", "empty.jsonl"])
def test_a_file_without_boxes_is_refused(tmp_path, name):
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(InputError, match=name):
        read_boxes(tmp_path / name)


@given(st.lists(st.floats(-1e5, 1e5), min_size=4, max_size=4))
def test_any_box_lies_in_the_frame_and_is_not_empty(tmp_path_factory, numbers):
    x0, x1, y0, y1 = *sorted(numbers[:2]), *sorted(numbers[2:])
    if round(x0) == round(x1) or round(y0) == round(y1):
        return
    path = tmp_path_factory.mktemp("boxes") / "boxes.jsonl"
    path.write_text(json.dumps({"frame": 0, "boxes": [{"rect": [x0, y0, x1, y1]}]}))
    regions = read_boxes(path).regions_of(Frame(0, 0, np.asarray(noise(0))), noise(0))
    left, top, right, bottom = regions.rects[0]
    assert 0 <= left < right <= 80
    assert 0 <= top < bottom <= 60


def test_of_a_box_outside_the_frame_no_class_is_said(tmp_path):
    boxes = written(tmp_path, {"frame": 0, "boxes": [{"rect": [90, 70, 120, 95]}, {"rect": [5, 5, 60, 50]}]})
    _, lines = run(make_bundle(tmp_path / "b"), write_video(tmp_path / "v.mp4", frames=1), boxes, tmp_path / "out")
    verdict = lines[0]["zones"]["box0"]
    assert (verdict["state"], verdict["label"], verdict["why"]) == ("BLIND", None, "outside the frame")
    assert lines[0]["zones"]["box1"]["state"] != "BLIND"


def test_boxes_of_frames_that_do_not_come_are_counted_and_named(tmp_path, caplog):
    boxes = written(tmp_path, *[{"file": f"{name}.jpg", "boxes": [{"rect": [0, 0, 9, 9]}]} for name in "ab"])
    run(make_bundle(tmp_path / "b"), write_video(tmp_path / "v.mp4", frames=1), boxes, tmp_path / "out")
    assert "boxes.jsonl: 2 lines with boxes match no frame, first 'a.jpg'" in caplog.text
