"""The labeled boxes as regions, moved as a detector would."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import InputError
from inference.runner.labeled_regions import FramesRequest, jittered, warn_of_other_classes
from tests.inference.proof.test_frame_score import corners


@given(corners, st.floats(0, 1), st.integers(0, 99))
def test_a_jittered_box_keeps_a_pixel_and_without_jitter_stays(box, jitter, seed):
    x0, y0, x1, y1 = jittered(box, jitter, np.random.default_rng(seed))
    assert x0 < x1
    assert y0 < y1
    assert jittered(box, 0.0, np.random.default_rng(seed)) == box


@pytest.mark.parametrize("turned", [{"rotation": 90}, {"crop": [0, 0, 0.5, 1]}, {"mirror_for_network": True}])
def test_a_camera_that_turns_the_picture_is_refused_since_labeled_frames_are_upright(tmp_path, turned):
    camera = tmp_path / "camera.json"
    camera.write_text(json.dumps({"zones": {"left": [0, 0, 0.5, 1]}} | turned))
    with pytest.raises(InputError, match="label upright frames"):
        FramesRequest(camera=camera).regions(None, [], None, "ort", 1)


def test_the_edges_of_many_jittered_boxes_deviate_as_asked():
    random = np.random.default_rng(0)
    moved = np.array([jittered((1000, 1000, 2000, 3000), 0.1, random) for _ in range(2000)])
    assert moved.mean(0) == pytest.approx([1000, 1000, 2000, 3000], abs=15)
    assert moved.std(0) == pytest.approx([100, 200, 100, 200], rel=0.05)
    with pytest.raises(InputError, match="jitter is -1"):
        FramesRequest(jitter=-1)


def test_a_background_that_one_side_lacks_is_no_other_class(caplog):
    bundle = SimpleNamespace(arch="tiny", classes=("car", "van"), background=None)
    pack = SimpleNamespace(path="pack", classes=("car", "van", "clear"), background="clear")
    warn_of_other_classes(bundle, pack)
    assert not caplog.records
    pack.classes = ("car", "bus", "clear")
    warn_of_other_classes(bundle, pack)
    assert "differ in the classes bus, van:" in caplog.text
