"""camera.json: a frame is turned upright, cropped and flipped as it says, and what is wrong in it is named."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import InputError
from core.geometry.camera_config import CameraConfig, read_camera_config
from core.geometry.detector_config import DetectorFile
from inference.frame.orientation import FrameOrientation
from inference.frame.regions import Zones
from tests.inference.sources.videos import noise

FRAME = noise(0, 40, 60)
VALUES = {
    "zones": {"ego": (0.25, 0, 0.75, 1)},
    "rotation": 90,
    "crop": (0, 0, 0.5, 1),
    "mirror_for_people": True,
    "mirror_for_network": True,
    "detector": DetectorFile(Path("d.onnx")),
}
"""A value of each field of CameraConfig that is not its default."""


def written(tmp_path, body):
    path = tmp_path / "camera.json"
    path.write_text(body if isinstance(body, str) else json.dumps(body))
    return path


def test_a_camera_that_needs_nothing_gets_its_own_frame_back():
    assert FrameOrientation(CameraConfig()).upright(FRAME) is FRAME


@pytest.mark.parametrize(("rotation", "turns"), [(90, 3), (180, 2), (270, 1)])
def test_rotation_turns_clockwise(rotation, turns):
    assert np.array_equal(FrameOrientation(CameraConfig(rotation=rotation)).upright(FRAME), np.rot90(FRAME, turns))


def test_crop_is_of_the_upright_picture_and_the_mirror_comes_last():
    camera = CameraConfig(rotation=90, crop=(0.0, 0.0, 0.5, 1.0), mirror_for_network=True)
    upright = np.rot90(FRAME, 3)
    assert np.array_equal(FrameOrientation(camera).upright(FRAME), upright[:, :20][:, ::-1])


def test_the_mirror_for_people_leaves_the_network_alone():
    assert FrameOrientation(CameraConfig(mirror_for_people=True)).upright(FRAME) is FRAME


@pytest.mark.parametrize("name", [field.name for field in fields(CameraConfig)])
def test_exactly_the_keys_that_change_the_picture_are_refused_for_labeled_frames(name):
    camera = CameraConfig(**{name: VALUES[name]})
    changes = not np.array_equal(FrameOrientation(camera).upright(FRAME), FRAME)
    try:
        camera.check_upright(Path("camera.json"))
    except InputError:
        assert changes
    else:
        assert not changes


def test_a_camera_json_is_read_back_as_written(tmp_path):
    body = {"zones": {"ego": [0.25, 0, 0.75, 1]}, "rotation": 180, "mirror_for_people": True}
    assert read_camera_config(written(tmp_path, body)) == CameraConfig(
        {"ego": (0.25, 0, 0.75, 1)}, 180, mirror_for_people=True
    )


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ("{", "JSON"),
        ([1], "object"),
        ({"zone": {}}, "zone"),
        ({"zones": {}}, "zones"),
        ({"zones": {f"z{i}": [0, 0, 1, 1] for i in range(71)}}, "there are 71 zones: give 32 at most"),
        ({"zones": {"ego": [0, 0, 1]}}, "zones.ego"),
        ({"zones": {"ego": [0.5, 0, 0.5, 1]}}, "zones.ego"),
        ({"zones": {"ego": [0, 0, 1.5, 1]}}, "zones.ego"),
        ({"zones": {"ego": [0, 0, True, 1]}}, "zones.ego"),
        ({"zones": {"ego": ["a", 0, 1, 1]}}, "zones.ego"),
        ({"zones": {"ego": [0, 0, 10**400, 1]}}, "zones.ego"),
        ({"zones": {"": [0, 0, 1, 1]}}, "name"),
        ({"zones": {"ego\n": [0, 0, 1, 1]}}, "name"),
        ({"zones": {"\ud800": [0, 0, 1, 1]}}, "name"),
        ({"rotation": 45}, "rotation"),
        ({"rotation": [90]}, "rotation"),
        ({"crop": [0, 0, 0, 1]}, "crop"),
        ({"mirror_for_people": 1}, "mirror_for_people"),
        ({"zones": {"a" * 100_000: [0, 0, 1, 1]}}, r"^.{0,200}a zone's name has 100000 characters .{0,80}$"),
    ],
)
def test_what_is_wrong_is_named_with_the_file(tmp_path, body, named):
    with pytest.raises(InputError, match=named) as error:
        read_camera_config(written(tmp_path, body))
    assert "camera.json" in str(error.value)


@given(st.lists(st.floats(0, 1), min_size=4, max_size=4), st.integers(1, 5000), st.integers(1, 5000))
def test_a_zone_is_never_empty_and_never_outside_the_frame(numbers, width, height):
    (x0, x1), (y0, y1) = sorted(numbers[:2]), sorted(numbers[2:])
    left, top, right, bottom = Zones({"z": (x0, y0, x1, y1)}).rects(width, height)[0]
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height


def test_zones_follow_a_change_of_the_frames_size():
    zones = Zones({"half": (0.0, 0.0, 0.5, 1.0)})
    assert zones.rects(100, 50) == [(0, 0, 50, 50)]
    assert zones.rects(60, 40) == [(0, 0, 30, 40)]
