"""The detector's configuration: what is read back as written, and what is refused by name."""

import json
from dataclasses import fields

import pytest

from core.errors import InputError
from core.geometry.camera_config import read_camera_config
from core.geometry.detector_config import DetectorConfig, DetectorInput


def test_read_back_as_written():
    config = DetectorConfig(
        "yolox", DetectorInput("top_left", size_hw=(416, 416)), ("car",), ("car",), every=3, threads=1
    )
    assert DetectorConfig.from_json(json.loads(json.dumps(config.as_json()))) == config


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"threshold": 1.5}, "threshold"),
        ({"threshold": True}, "threshold"),
        ({"threshold": 1}, "threshold is 1: no score is over it"),
        ({"overlap": "0.5"}, "overlap"),
        ({"most": 0}, "most"),
        ({"most": 33}, "most"),
        ({"min_side_px": -1}, "min_side_px"),
        ({"every": 1.5}, "every"),
        ({"threads": 0}, "threads"),
        ({"agnostic": 1}, "agnostic"),
        ({"layout": 3}, "layout"),
        ({"names": "car"}, "names"),
        ({"counts": [1]}, "counts"),
        ({"look_at": [0, 0, 2, 1]}, "look_at"),
        ({"speed": 1}, "speed"),
        ({"input": 1}, "input"),
        ({"input": {"fit": "zoom"}}, "input.fit"),
        ({"input": {"color": "grey"}}, "input.color"),
        ({"input": {"std": 0}}, "input.std"),
        ({"input": {"mean": [1, 2]}}, "input.mean"),
        ({"input": {"size_hw": [416]}}, "input.size_hw"),
        ({"input": {"size_hw": [416, 0]}}, "input.size_hw"),
        ({"input": {"pad": 300}}, "input.pad"),
        ([], "the detector"),
    ],
)
def test_a_wrong_value_is_refused_by_name(body, named):
    with pytest.raises(InputError, match=named):
        DetectorConfig.from_json(body)


GARBAGE = [None, True, -1, 10**400, float("nan"), float("inf"), "", "\ud800", "a\nb", [], [[1]], {"a": 1}, ["x"] * 1000]


def problem_of(file):
    """Return the sentence by which a camera.json is refused; where it is read, the beginning of each such sentence."""
    try:
        read_camera_config(file)
    except InputError as error:
        return str(error)
    return f"{file}: "


@pytest.mark.parametrize("key", ["detector", "input", *(item.name for item in fields(DetectorConfig))])
def test_anything_in_any_key_of_regions_is_read_or_one_short_sentence(tmp_path, key):
    file = tmp_path / "camera.json"
    for value in GARBAGE:
        file.write_text(json.dumps({"regions": {"detector": "d.onnx", key: value}}))
        problem = problem_of(file)
        assert problem.startswith((f"{file}: ", f"{file} is not readable JSON ("))
        assert len(problem.splitlines()) == 1
        assert len(problem) < len(str(file)) + 300
