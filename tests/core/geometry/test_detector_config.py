"""The detector's configuration: what is read back as written, and what is refused by name."""

import json

import pytest

from core.errors import InputError
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
