"""The tracker: against a slow plain twin, and the switches of identity on the synthetic camera with its truth."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import InputError
from core.synthetic.drawing import View
from core.synthetic.traffic import BACKGROUND, actors_at
from inference.detectors import Detections
from inference.frame.detection.tracking import Tracker, TrackingConfig, match_boxes, pairwise_iou

FRAME_MS = 1000 / 30


def detections(boxes) -> Detections:
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    return Detections(boxes, np.full(len(boxes), 0.9, np.float32), np.zeros(len(boxes), np.int64))


def numbers(tracker: Tracker, boxes, now_ms: float) -> list[int]:
    return [track.number for track in tracker.update(detections(boxes), now_ms)]


def plain_overlap(a, b) -> float:
    shared = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    areas = [max(x[2] - x[0], 0) * max(x[3] - x[1], 0) for x in (a, b)]
    return shared / (sum(areas) - shared) if sum(areas) > shared else 0.0


class PlainTracker:
    """The same in lists of numbers, one box at a time."""

    def __init__(self) -> None:
        self.tracks: list[dict] = []
        self.next = 1

    def update(self, boxes, now_ms):
        alive = [t for t in self.tracks if now_ms - t["at"] <= 500]
        predicted = [
            [s + v * (now_ms - t["at"]) for s, v in zip(t["box"], t["v"] or [0] * 4, strict=True)] for t in alive
        ]
        pairs = [(-plain_overlap(p, b), i, j) for i, p in enumerate(predicted) for j, b in enumerate(boxes)]
        owner: dict[int, int] = {}
        for negative, i, j in sorted(pairs):
            if -negative >= 0.1 and i not in owner.values() and j not in owner:
                owner[j] = i
        found = []
        for j, box in enumerate(boxes):
            if j not in owner:
                track = {"number": self.next, "box": list(box), "v": None, "at": now_ms}
                self.next += 1
            else:
                track, guess = alive[owner[j]], predicted[owner[j]]
                elapsed = now_ms - track["at"]
                if track["v"] is None:
                    track["v"] = [(b - o) / elapsed for b, o in zip(box, track["box"], strict=True)]
                    track["box"] = list(box)
                else:
                    error = [b - g for b, g in zip(box, guess, strict=True)]
                    track["box"] = [g + 0.8 * e for g, e in zip(guess, error, strict=True)]
                    track["v"] = [v + 0.4 * e / elapsed for v, e in zip(track["v"], error, strict=True)]
                track["at"] = now_ms
            found.append(track)
        self.tracks = found + [t for t in alive if all(t is not f for f in found)]
        return [(t["number"], t["box"]) for t in found]


whole = st.integers(0, 40)
boxes_of_a_frame = st.lists(st.tuples(whole, whole, st.integers(5, 30), st.integers(5, 30)), max_size=5)


@given(st.lists(boxes_of_a_frame, min_size=1, max_size=8), st.sampled_from([33.0, 100.0, 300.0]))
def test_equals_the_plain_twin(frames, step_ms):
    tracker, plain = Tracker(), PlainTracker()
    for i, frame in enumerate(frames):
        boxes = [(x, y, x + w, y + h) for x, y, w, h in frame]
        found = tracker.update(detections(boxes), i * step_ms)
        expected = plain.update(boxes, i * step_ms)
        assert [t.number for t in found] == [number for number, _ in expected]
        assert np.allclose([t.box for t in found], [box for _, box in expected])


def test_overlaps_equal_the_plain_twin():
    random = np.random.default_rng(0)
    corner = random.uniform(0, 20, (2, 30, 2))
    a, b = np.concatenate([corner, corner + random.uniform(-1, 15, (2, 30, 2))], 2)
    assert np.allclose(pairwise_iou(a, b), [[plain_overlap(x, y) for y in b] for x in a])


def test_each_row_and_column_is_matched_once_and_the_largest_first():
    assert match_boxes(np.array([[0.9, 0.8], [0.85, 0.1]]), 0.2) == {0: 0}
    assert match_boxes(np.array([[0.5, 0.8], [0.6, 0.7]]), 0.2) == {1: 0, 0: 1}


def test_an_object_that_moves_keeps_its_number_where_boxes_no_longer_overlap():
    tracker = Tracker()
    at = [(0, 0, 20, 20), (10, 0, 30, 20), (20, 0, 40, 20), (60, 0, 80, 20)]  # the last after a gap of 4 frames
    seen = [numbers(tracker, [box], t * FRAME_MS) for box, t in zip(at, (0, 1, 2, 6), strict=True)]
    assert seen == [[1]] * 4


def test_two_that_cross_keep_their_numbers():
    tracker = Tracker()
    seen = [
        numbers(tracker, [(4 * i, 0, 4 * i + 30, 30), (80 - 4 * i, 20, 110 - 4 * i, 50)], i * 33.0) for i in range(20)
    ]
    assert seen == [[1, 2]] * 20


def test_a_number_is_not_used_again_after_a_long_absence_or_a_reset():
    tracker = Tracker()
    assert numbers(tracker, [(0, 0, 9, 9)], 0.0) == [1]
    assert numbers(tracker, [(0, 0, 9, 9)], 501.0) == [2]
    tracker.reset()
    assert numbers(tracker, [(0, 0, 9, 9)], 502.0) == [3]


def test_a_time_that_jumps_backwards_begins_anew():
    tracker = Tracker()
    numbers(tracker, [(0, 0, 9, 9)], 100.0)
    assert numbers(tracker, [(0, 0, 9, 9)], 50.0) == [2]


def test_carried_boxes_move_on():
    tracker = Tracker()
    numbers(tracker, [(0, 0, 20, 20), (50, 50, 60, 60)], 0.0)
    numbers(tracker, [(10, 0, 30, 20)], 100.0)
    assert [(t.number, t.predict(150.0).tolist()) for t in tracker.detected_last()] == [(1, [15, 0, 35, 20])]


@pytest.mark.parametrize("values", [{"min_overlap": 0.0}, {"min_overlap": 1.5}, {"forget_ms": 0.0}])
def test_a_wrong_configuration_is_refused(values):
    with pytest.raises(InputError):
        TrackingConfig(**values)


def truth(seed: int, time_s: float) -> dict[tuple, tuple[float, ...]]:
    """Return the front of every object on the synthetic road, by its identity; hidden ones are left out."""
    view = View.of(1280, 720, "day", 1.0)
    boxes = {}
    for actor in reversed([a for a in actors_at(seed, time_s) if a.label != BACKGROUND]):
        away = actor.distance_m(time_s)
        x0, y0 = view.point(actor.lateral_m - actor.width_m / 2, actor.height_m, away)
        x1, y1 = view.point(actor.lateral_m + actor.width_m / 2, 0.0, away)
        box = (max(x0, 0), max(y0, 0), min(x1, 1280), min(y1, 720))
        if box[0] < box[2] and all(plain_overlap(box, other) < 0.4 for other in boxes.values()):
            boxes[actor.zone, actor.start_s] = box
    return boxes


def count_switches(seed: int, every: int = 1, missed: float = 0.15, jitter: float = 0.04) -> tuple[int, int]:
    """Return the identity switches (CLEAR MOT: an object whose number is not its last one's) and the objects seen.

    Detections: the truth, its sides moved by a part of its size, some left out, in random order.
    """
    random, tracker = np.random.default_rng(seed), Tracker()
    last: dict[tuple, int] = {}
    switches = seen = 0
    for frame in range(0, 30 * 24, every):
        objects = [(key, box) for key, box in truth(seed, frame / 30).items() if random.random() > missed]
        random.shuffle(objects)
        sizes = [np.tile([box[2] - box[0], box[3] - box[1]], 2) for _, box in objects]
        noise = [random.normal(0, jitter, 4) * size for size in sizes]
        boxes = [np.array(box) + moved for (_, box), moved in zip(objects, noise, strict=True)]
        for (key, _), number in zip(objects, numbers(tracker, boxes, frame * FRAME_MS), strict=True):
            switches += last.get(key, number) != number
            last[key] = number
            seen += 1
    return switches, seen


@pytest.mark.parametrize("every", [1, 3])
def test_few_switches_of_identity_on_the_synthetic_camera(every):
    counted = [count_switches(seed, every) for seed in range(6)]
    switches, seen = np.sum(counted, axis=0)
    assert seen > 1500 / every
    assert switches / seen < 0.01
