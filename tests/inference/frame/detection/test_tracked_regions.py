"""A detector in front of the classifier: names, rates, gaps, and what a black or frozen picture becomes."""

import numpy as np
import pytest

from core.errors import DeviceError
from core.geometry.detector_config import DetectorConfig
from core.geometry.frame import Frame
from inference.backends import open_backend
from inference.frame.decision import Decision
from inference.frame.detection.detector import Detector, resolve_config
from inference.frame.detection.tracked_regions import TrackedRegions
from inference.frame.processor import FrameConfig, FrameProcessor
from inference.frame.run_stats import RunStats
from inference.frame.states import State
from tests.bundles import make_bundle
from tests.inference.detectors.networks import network_of

PICTURE = np.random.default_rng(0).integers(60, 200, (64, 96, 3), np.uint8)


class Road:
    """A detector whose answer a test may change, and which counts how often it was asked."""

    def __init__(self, *, sequence: bool = True, **config) -> None:
        self.network = network_of(np.zeros((1, 1, 6), np.float32), names="{0: 'car'}", end2end="True")
        detector = Detector(self.network, resolve_config(self.network, DetectorConfig(**config)))
        self.regions = TrackedRegions(detector, sequence=sequence)
        self.runs = 0
        answer = self.network.run

        def run(feeds):
            self.runs += 1
            return answer(feeds)

        self.network.run = run

    def show(self, *boxes: tuple[float, ...]) -> None:
        rows = [(*box, 0.9, 0) for box in boxes] or [(0,) * 6]
        self.network.answers = {"output0": np.array([rows], np.float32)}

    def at(self, number: int, picture=PICTURE):
        return self.regions.regions_of(Frame(number, 0, picture, media_ns=number * 33_000_000), picture)


def test_an_object_keeps_its_name_while_it_moves():
    road, names = Road(), []
    for i in range(5):
        other = [(60, 40, 80, 60)] if i % 2 else []
        road.show(*other, (5 + 3 * i, 5, 25 + 3 * i, 25))
        names.append(road.at(i).names)
    assert names == [["track1"], ["track2", "track1"], ["track1"], ["track2", "track1"], ["track1"]]


def test_between_detections_the_tracks_carry_the_boxes_on():
    road = Road(every=3)
    road.show((0, 0, 20, 20))
    assert road.at(0).rects == [(0, 0, 20, 20)]
    road.show((30, 0, 50, 20))
    for i in (1, 2):
        assert road.at(i).rects == [(0, 0, 20, 20)]  # seen once, it has no velocity
    road.show((6, 0, 26, 20))
    seen = [road.at(i).rects[0][0] for i in range(3, 6)]
    assert (seen, road.runs) == ([6, 8, 10], 2)


def test_a_track_that_left_the_frame_is_no_region():
    road = Road(every=4)
    road.show((70, 0, 90, 20))
    for i in range(4):
        road.at(i)
    road.show((85, 0, 96, 20))
    assert [road.at(i).rects for i in range(4, 8)] == [
        [(85, 0, 96, 20)],
        [(89, 0, 96, 20)],
        [(92, 0, 96, 20)],
        [],
    ]


def test_after_a_gap_objects_are_new_and_detected_at_once():
    road = Road(every=3)
    road.show((0, 0, 20, 20))
    road.at(0)
    road.regions.reset()
    assert road.at(1).names == ["track2"]
    assert road.runs == 2


def test_unrelated_pictures_are_each_detected_and_never_tracked():
    road = Road(every=3, sequence=False)
    road.show((0, 0, 20, 20))
    assert [road.at(i).names for i in range(2)] == [["track1"], ["track2"]]
    assert not road.regions.persistent


def test_five_hundred_boxes_fit_the_batch_that_was_opened():
    road = Road(most=8, overlap=1.0)
    corner = np.random.default_rng(0).uniform(0, 40, (500, 2))
    road.show(*[(x, y, x + 9, y + 9) for x, y in corner])
    assert len(road.at(0).rects) == road.regions.max_regions == 8


def test_after_nan_no_region_is_known_until_the_detector_runs_again():
    road = Road(every=2)
    road.show((0, 0, 20, 20))
    road.at(0)
    road.show((0, 0, 20, 20), (np.nan,) * 4)
    found = [road.at(i) for i in (1, 2, 3)]
    road.show((0, 0, 20, 20))
    found.append(road.at(4))
    assert [bool(regions.failure) for regions in found] == [False, True, True, False]
    assert [regions.names for regions in found] == [["track1"], [], [], ["track1"]]


@pytest.fixture
def processor(tmp_path):
    """The hot path with a detector in front, over the null backend unless another is given."""

    def make(road: Road, name: str = "null") -> FrameProcessor:
        bundle = make_bundle(tmp_path / "bundle", background=None)
        backend = open_backend(name, bundle, "fp32", batch=road.regions.max_regions)
        return FrameProcessor(bundle, backend, road.regions, FrameConfig())

    return make


def results(processor, pictures):
    return [processor.process(Frame(i, 0, p, media_ns=i * 33_000_000)) for i, p in enumerate(pictures)]


def test_a_black_picture_is_blind_though_the_detector_finds_nothing(processor):
    road = Road()
    road.show()
    (result,) = results(processor(road), [np.zeros_like(PICTURE)])
    assert (result.state, result.reason) == (State.BLIND, "the picture is black")


def test_an_empty_road_is_ok_without_a_verdict(processor):
    road = Road()
    road.show()
    noise = np.random.default_rng(1).integers(60, 200, (6, 160, 240, 3), np.uint8)
    assert [(r.state, r.verdicts) for r in results(processor(road), list(noise))] == [(State.OK, ())] * 6


@pytest.mark.parametrize("boxes", [(), ((5, 5, 40, 40),)])
def test_a_frozen_picture_is_stale_with_and_without_boxes(processor, boxes):
    road = Road()
    road.show(*boxes)
    assert results(processor(road), [PICTURE] * 15)[-1].state is State.STALE


@pytest.mark.parametrize("box", [(5, 5, 24, 26), (5, 5, 26, 24), (77.6, 5, 120, 27)])
def test_a_box_with_too_few_pixels_is_unknown_until_it_grows(processor, box):
    road = Road(min_side_px=20)
    made = processor(road)
    road.show((5, 5, 25, 25))
    (near,) = results(made, [PICTURE])
    assert (near.verdicts[0].state, near.verdicts[0].reason) == (State.OK, None)
    road.show(box)
    made.reset()
    (far,) = results(made, [PICTURE])
    (verdict,) = far.verdicts
    assert (far.state, verdict.state, verdict.label, verdict.reason) == (
        State.UNKNOWN,
        State.UNKNOWN,
        None,
        "too small",
    )


def test_a_narrow_box_that_is_tall_enough_is_named(processor):
    """A standing person is narrow."""
    road = Road(min_side_px=20)
    road.show((5, 5, 15, 45))
    (result,) = results(processor(road), [PICTURE])
    assert result.verdicts[0].state is State.OK


def test_what_is_said_of_a_box_that_grows_comes_from_its_large_pictures_alone(processor):
    road, dark = Road(min_side_px=20), PICTURE // 4
    made = processor(road, "ort")  # the null backend says the same of every picture
    road.show((5, 5, 20, 30))
    results(made, [dark])
    road.show((5, 5, 25, 30))
    grown = made.process(Frame(1, 0, PICTURE, media_ns=33_000_000))
    made.reset()
    alone = made.process(Frame(2, 0, PICTURE, media_ns=66_000_000))
    assert [v.name for v in grown.verdicts] == ["track1"]
    assert grown.verdicts[0].prob == pytest.approx(alone.verdicts[0].prob)


def test_boxes_that_are_too_small_are_counted_by_that_name(processor):
    road, stats = Road(min_side_px=30), RunStats(("car",))
    road.show((5, 5, 25, 25), (40, 5, 90, 60))
    (result,) = results(processor(road), [PICTURE])
    stats.add(Decision(0, 0, 0.0, 0, result.state, result.verdicts))
    assert stats.as_json()["said"] == {"too small": 1, result.verdicts[1].label: 1}


def test_a_detector_that_fails_is_a_device_error(processor):
    road = Road()
    made = processor(road)
    road.network.run = lambda feeds: 1 / 0
    with pytest.raises(DeviceError, match="the detector failed"):
        results(made, [PICTURE])


def test_the_time_of_the_detector_is_its_own(processor):
    road = Road()
    road.show((0, 0, 20, 20))
    (result,) = results(processor(road), [PICTURE])
    timings = result.timings
    assert timings.detect_ns > 0
    assert timings.total_ns == timings.detect_ns + timings.pre_ns + timings.infer_ns + timings.rest_ns
