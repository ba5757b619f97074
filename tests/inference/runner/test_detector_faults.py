"""The fault matrix with a detector in front: what goes wrong with it or with the camera, and the state that is said."""

import numpy as np
import pytest

from core.errors import DeviceError
from inference.capture.base import SourceLost
from tests.inference.fake_camera import drive, good, picture, raising
from tests.inference.frame.detection.test_tracked_regions import Road


@pytest.fixture
def road():
    """A detector that sees one car."""
    made = Road(most=8)
    made.show((5, 5, 40, 40))
    return made


def names(done) -> list[list[str]]:
    return [[verdict.name for verdict in decision.verdicts] for decision in done.decisions if decision.fresh]


def test_a_good_camera_is_ok_and_the_car_keeps_its_name(tmp_path, road):
    done = drive(tmp_path, good(8), regions=road.regions)
    assert (done.error, done.states, names(done)) == (None, ["OK"], [["track1"]] * 8)


def test_a_lost_camera_comes_back_with_new_objects(tmp_path, road):
    done = drive(tmp_path, [*good(4), raising(SourceLost("unplugged")), *good(4, 10)], regions=road.regions)
    assert (done.error, done.states) == (None, ["OK", "LOST", "OK"])
    assert names(done) == [["track1"]] * 4 + [["track2"]] * 4


def test_a_detector_that_raises_is_failed_and_the_command_ends(tmp_path, road):
    answer = road.network.run

    def breaks(feeds):
        if road.runs == 3:
            raise RuntimeError("out of memory")
        return answer(feeds)

    road.network.run = breaks
    done = drive(tmp_path, good(8), regions=road.regions)
    assert isinstance(done.error, DeviceError)
    assert "the detector failed (RuntimeError: out of memory)" in str(done.error)
    assert done.states == ["OK", "FAILED"]


def test_a_detector_that_finds_five_hundred_boxes_is_bounded(tmp_path, road):
    corner = np.random.default_rng(0).uniform(0, 50, (500, 2))
    road.show(*[(x, y, x + 8, y + 8) for x, y in corner])
    done = drive(tmp_path, good(4), regions=road.regions)
    assert (done.error, done.states) == (None, ["OK"])
    assert all(0 < len(found) <= 8 for found in names(done))


def test_a_black_picture_is_blind_and_a_frozen_one_stale_without_a_box(tmp_path, road):
    road.show()
    black = picture(1) * 0
    done = drive(tmp_path / "black", [*good(3), *[black] * 3], regions=road.regions)
    assert (done.error, done.states) == (None, ["OK", "BLIND"])
    done = drive(tmp_path / "frozen", [*good(3), *[picture(9)] * 12], regions=road.regions)
    assert done.states[:2] == ["OK", "STALE"]
