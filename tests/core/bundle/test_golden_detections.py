"""Golden frames of a detector: what is read back, refused, and how boxes are held against each other."""

import numpy as np
import pytest

from core.bundle.golden_detections import GoldenDetections, compare_detections, load_golden_detections
from core.errors import InputError

FRAME = np.zeros((8, 9, 3), np.uint8)
BOX = (1.0, 2.0, 30.0, 40.0, 0.8, 2.0)


def golden(*rows: tuple[float, ...]) -> GoldenDetections:
    boxes = np.array(rows or [BOX], np.float32)
    return GoldenDetections((FRAME,), boxes, np.zeros(len(boxes), np.int32))


def checks(expected: GoldenDetections, *found: tuple[float, ...]) -> list[float]:
    rows = compare_detections("ort", [np.array(found, np.float32).reshape(-1, 6)], expected, 0.3)
    return [row.value for row in rows]


def test_read_back_as_written(tmp_path):
    golden().save(tmp_path / "golden_detector.npz")
    read = load_golden_detections(tmp_path / "golden_detector.npz")
    assert np.array_equal(read.boxes_n6, golden().boxes_n6)
    assert np.array_equal(read.frames[0], FRAME)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"x" * 999])
def test_a_damaged_file_is_one_sentence(tmp_path, content):
    file = tmp_path / "golden_detector.npz"
    file.write_bytes(content)
    with pytest.raises(InputError, match="is not a golden file"):
        load_golden_detections(file)


def test_no_box_at_all_proves_nothing():
    with pytest.raises(InputError, match="0 boxes"):
        GoldenDetections((FRAME,), np.zeros((0, 6), np.float32), np.zeros(0, np.int32))


def test_a_box_within_two_pixels_matches_and_its_distance_is_told():
    assert checks(golden(), (1.0, 2.0, 31.5, 40.0, 0.7, 2.0)) == [0, 1.5]


@pytest.mark.parametrize(
    "found", [(), ((1, 2, 33, 40, 0.8, 2),), ((1, 2, 30, 40, 0.8, 3),), (BOX, (50, 50, 60, 60, 0.8, 2))]
)
def test_missing_moved_renamed_and_added_boxes_fail(found):
    assert checks(golden(), *found)[0] > 0


def test_a_box_near_the_threshold_may_come_and_go():
    near = (50.0, 50.0, 60.0, 60.0, 0.32, 2.0)
    assert checks(golden(BOX, near), BOX) == [0, 0]
    assert checks(golden(), BOX, near) == [0, 0]
