"""The fault matrix with a detector in front: what goes wrong with it and the camera, and the state that is said."""

import os
import threading

import numpy as np
import pytest

from core.errors import DeviceError
from inference.capture.base import SourceLost
from inference.frame.states import State
from inference.runner.heartbeats import RunnerProcess
from tests.inference.fake_camera import drive, good, picture, raising
from tests.inference.frame.detection.test_tracked_regions import Road
from tests.inference.runner.process_faults import Drive
from tests.waiting import LONGEST_S

CAMERAS = {
    "STALE": [picture(9)] * 16,
    "BLIND": [picture(1) * 0] * 3,
    "LOST": [raising(SourceLost("unplugged"))],
}
"""What the camera gives for a while, by the state that must be said of it."""


@pytest.fixture
def road():
    """A detector that sees one car."""
    made = Road(most=8)
    made.show((5, 5, 40, 40))
    return made


def one_car(road):
    pass


def five_hundred_boxes(road):
    corner = np.random.default_rng(0).uniform(0, 50, (500, 2))
    road.show(*[(x, y, x + 8, y + 8) for x, y in corner])


def nothing(road):
    road.show()


def nan(road):
    road.network.answers = {"output0": np.full((1, 1, 6), np.nan, np.float32)}


def breaks_at(road, run):
    """Make the detector raise from a run on."""
    answer = road.network.run

    def breaks(feeds):
        if road.runs == run:
            raise RuntimeError("out of memory")
        return answer(feeds)

    road.network.run = breaks


def names(done) -> list[list[str]]:
    return [[verdict.name for verdict in decision.verdicts] for decision in done.decisions if decision.fresh]


@pytest.mark.parametrize("camera", CAMERAS)
@pytest.mark.parametrize(
    ("finds", "good_state"), [(one_car, "OK"), (five_hundred_boxes, "OK"), (nothing, "OK"), (nan, "BLIND")]
)
def test_what_the_camera_has_is_said_whatever_the_detector_finds(tmp_path, road, finds, good_state, camera):
    finds(road)
    done = drive(tmp_path, [*good(3), *CAMERAS[camera], *good(3, 10)], regions=road.regions)
    assert done.error is None
    assert done.states == ([camera] if camera == good_state else [good_state, camera, good_state])
    assert all(len(found) <= road.regions.max_regions for found in names(done))
    assert not [v for d in done.decisions for v in d.verdicts if v.label and v.state is not State.OK]


@pytest.mark.parametrize("camera", CAMERAS)
def test_a_detector_that_raises_while_the_camera_is_bad_is_failed(tmp_path, road, camera):
    script = [*good(3), *CAMERAS[camera], *good(3, 10)]
    breaks_at(road, 3 + (len(CAMERAS[camera]) if camera != "LOST" else 0))
    done = drive(tmp_path, script, regions=road.regions)
    assert isinstance(done.error, DeviceError)
    assert done.states == ["OK", camera, "FAILED"]


def test_a_good_camera_is_ok_and_the_car_keeps_its_name(tmp_path, road):
    done = drive(tmp_path, good(8), regions=road.regions)
    assert (done.error, done.states, names(done)) == (None, ["OK"], [["track1"]] * 8)


def test_a_lost_camera_comes_back_with_new_objects(tmp_path, road):
    done = drive(tmp_path, [*good(4), *CAMERAS["LOST"], *good(4, 10)], regions=road.regions)
    assert names(done) == [["track1"]] * 4 + [["track2"]] * 4


def test_a_detector_that_raises_is_failed_in_one_sentence(tmp_path, road):
    breaks_at(road, 3)
    done = drive(tmp_path, good(8), regions=road.regions)
    assert isinstance(done.error, DeviceError)
    assert str(done.error) == "the detector failed (RuntimeError: out of memory): start it again"
    assert done.states == ["OK", "FAILED"]


def test_nan_from_the_detector_is_said_and_is_no_empty_road(tmp_path, road):
    nan(road)
    done = drive(tmp_path, good(4), regions=road.regions)
    assert {(d.state, d.reason) for d in done.decisions} == {(State.BLIND, "the detector gives NaN")}
    assert done.states == ["BLIND"]


@pytest.mark.parametrize("camera", CAMERAS)
def test_a_detector_that_hangs_stops_the_heartbeats_whatever_the_camera_gives(tmp_path, road, camera):
    hangs, goes_on = threading.Event(), threading.Event()
    answer = road.network.run
    bad = len(CAMERAS[camera]) if camera != "LOST" else 0

    def run(feeds):
        if road.runs == 3 + bad - 1:
            hangs.set()
            goes_on.wait(LONGEST_S)
        return answer(feeds)

    road.network.run = run
    readable, writable = os.pipe()
    for end in (readable, writable):
        os.set_blocking(end, False)
    script = [*good(3), *CAMERAS[camera], *good(30, 10)]
    options = {"regions": road.regions, "process": RunnerProcess(pipe=writable)}
    runner = threading.Thread(target=lambda: drive(tmp_path, script, **options))
    runner.start()
    try:
        assert hangs.wait(LONGEST_S), "the detector was not asked"
        assert os.read(readable, 65536)
        runner.join(0.3)  # the camera goes on: it gives twelve frames meanwhile
        with pytest.raises(BlockingIOError):
            os.read(readable, 65536)
    finally:
        goes_on.set()
        runner.join()
        os.close(readable)
        os.close(writable)


@pytest.mark.parametrize(
    ("word", "hang_s", "why"),
    [("detector-hang", 2, "it hung for 2 s"), ("detector-raise", 60, "it ended with exit code 1")],
)
def test_a_detector_that_fails_again_after_every_restart_is_failed_and_the_command_ends(tmp_path, word, hang_s, why):
    started = Drive(tmp_path, f"hang_s={hang_s}", "opening_s=60", "restarts=1", "backoff_s=0.01")
    try:
        assert started.wait(lambda line: bool(line["zones"]), 0) is not None, "no first frame with a region"
        (tmp_path / f"{word}-always").write_text("")
        errors = started.process.communicate(timeout=2 * LONGEST_S)[1]
    finally:
        started.process.kill()
    assert started.process.returncode == 1
    assert errors.splitlines()[-1] == (
        f"failed: the runner died 2 times, the last time because {why}: see the lines above"
    )
    assert "Traceback" not in errors
    last = started.lines()[-1]
    assert (last["state"], last["reason"], last["zones"]) == ("FAILED", why, {})
