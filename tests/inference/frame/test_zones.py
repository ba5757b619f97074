"""A zone that is too small for its class to be told is named no class."""

from __future__ import annotations

import json

import numpy as np
import pytest

from core.geometry.frame import Frame
from inference.commands.run import read_arguments, run_from_args
from inference.frame.regions import MIN_ZONE_SIDE_PX, Zones
from tests.bundles import make_bundle

WIDTH, HEIGHT = 320, 240
SIDE = MIN_ZONE_SIDE_PX


def picture(width=WIDTH, height=HEIGHT):
    return np.zeros((height, width, 3), np.uint8)


def too_small(zones, of):
    return set(zones.regions_of(Frame(0, 0, of), of).too_small)


@pytest.mark.parametrize("zone", [(0, 0, 1e-9, 1e-9), (0.9999, 0.9999, 1, 1), (0, 0, (SIDE - 1) / WIDTH, 1)])
def test_no_class_is_named_of_a_zone_with_a_side_of_few_pixels(tmp_path, caplog, zone):
    (tmp_path / "camera.json").write_text(json.dumps({"zones": {"tiny": zone, "large": [0, 0, SIDE / WIDTH, 1]}}))
    command = [
        str(make_bundle(tmp_path / "b").path),
        "--source",
        f"synthetic://?frames=2&width={WIDTH}&height={HEIGHT}",
    ]
    flags = [
        "--camera",
        str(tmp_path / "camera.json"),
        "--allow-unproved",
        "--no-overlay",
        "--out",
        str(tmp_path / "o"),
    ]
    run_from_args(read_arguments(command + flags))
    for line in map(json.loads, (tmp_path / "o" / "decisions.jsonl").open()):
        tiny, large = line["zones"]["tiny"], line["zones"]["large"]
        assert (tiny["state"], tiny["label"], tiny["why"]) == ("UNKNOWN", None, "too small")
        assert "why" not in large
    (said,) = [text for text in caplog.messages if "the zone" in text]
    assert said.startswith("the zone tiny has ")


def test_the_size_of_a_zone_is_that_in_the_present_picture():
    zones = Zones({"half": (0, 0, 0.5, 1)})
    assert too_small(zones, picture()) == set()
    assert too_small(zones, picture(2 * SIDE - 2, HEIGHT)) == {"half"}
    assert too_small(zones, picture(2 * SIDE, HEIGHT)) == set()
