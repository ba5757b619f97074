"""Layouts: the vectorized decoders against slow plain twins, and what is recognized and refused."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from core.errors import InputError
from core.geometry.detector_config import DetectorConfig
from inference import detectors
from inference.backends import Tensor
from inference.detectors import describe, find, recognize
from inference.frame.detection.detector import Detector, resolve_config
from tests.inference.detectors.networks import FakeNetwork, image, network_of

SIZE_HW = (64, 96)
TENSORFLOW = ("detection_boxes", "detection_classes:0", "detection_scores", "num_detections", "raw_detection_boxes")
seeds = st.integers(0, 2**32 - 1)


def rows_of(layout: str, seed: int) -> dict[str, np.ndarray]:
    """Return random outputs of a layout; 126 cells of 64 x 96, 3 classes."""
    random = np.random.default_rng(seed)
    uniform = lambda *shape: random.random(shape, np.float32)  # noqa: E731
    if layout == "yolox":
        return {"o": np.concatenate([random.normal(0, 1, (1, 126, 4)), uniform(1, 126, 4)], 2).astype(np.float32)}
    if layout == "yolov5":
        return {"o": np.concatenate([uniform(1, 378, 4) * 60, uniform(1, 378, 4)], 2)}
    if layout == "yolov8":
        return {"o": np.concatenate([uniform(1, 4, 126) * 60, uniform(1, 3, 126)], 1)}
    if layout == "yolo_end2end":
        return {"o": np.concatenate([uniform(1, 50, 4) * 60, uniform(1, 50, 1), random.integers(0, 3, (1, 50, 1))], 2)}
    if layout == "rtdetr":
        return {"pred_boxes": uniform(1, 30, 4), "logits": random.normal(0, 2, (1, 30, 3)).astype(np.float32)}
    if layout == "ssd_tensorflow":
        numbers, count = random.integers(1, 4, (1, 20)).astype(np.float32), np.array([15], np.float32)
        boxes, scores = uniform(1, 20, 4), uniform(1, 20)
        return dict(zip(TENSORFLOW, (boxes, numbers, scores, count, uniform(1, 99, 4)), strict=True))
    labels = random.integers(0, 3, 20)
    return {"boxes": uniform(20, 4) * 60, "labels": labels, "scores": uniform(20)}


def plain(layout: str, outputs: dict[str, np.ndarray], threshold: float) -> list[tuple]:
    """Return (x0, y0, x1, y1, score, class) of each row over the threshold, one number at a time."""
    found = []
    if layout == "ssd":
        for box, label, score in zip(outputs["boxes"], outputs["labels"], outputs["scores"], strict=True):
            found.append((*box, score, label))
    elif layout == "ssd_tensorflow":
        boxes, numbers, scores, (count,), _ = outputs.values()
        for i in range(int(count)):
            y0, x0, y1, x1 = boxes[0][i]
            found.append((x0 * 96, y0 * 64, x1 * 96, y1 * 64, scores[0][i], int(numbers[0][i])))
    elif layout == "rtdetr":
        for (x, y, w, h), logits in zip(outputs["pred_boxes"][0], outputs["logits"][0], strict=True):
            best = max(range(3), key=lambda c: logits[c])
            box = ((x - w / 2) * 96, (y - h / 2) * 64, (x + w / 2) * 96, (y + h / 2) * 64)
            found.append((*box, 1 / (1 + math.exp(-logits[best])), best))
    elif layout == "yolo_end2end":
        found = [tuple(row) for row in outputs["o"][0]]
    else:
        grid = [(x, y, s) for s in (8, 16, 32) for y in range(64 // s) for x in range(96 // s)]
        rows = outputs["o"][0].T if layout == "yolov8" else outputs["o"][0]
        for i, row in enumerate(rows):
            x, y, w, h = (float(v) for v in row[:4])
            if layout == "yolox":
                column, line, stride = grid[i]
                x, y, w, h = (x + column) * stride, (y + line) * stride, math.exp(w) * stride, math.exp(h) * stride
            scores = [float(v) for v in row[4:]] if layout == "yolov8" else [float(row[4] * v) for v in row[5:]]
            best = max(range(3), key=lambda c: scores[c])
            found.append((x - w / 2, y - h / 2, x + w / 2, y + h / 2, scores[best], best))
    return [row for row in found if row[4] > threshold]


@pytest.mark.parametrize("layout", detectors.names())
@given(seed=seeds, threshold=st.floats(0, 0.9))
def test_equals_the_plain_twin(layout, seed, threshold):
    outputs = rows_of(layout, seed)
    expected = plain(layout, outputs, threshold)
    found = find(layout).decode(outputs, SIZE_HW, threshold)
    assert len(found) == len(expected)
    made = np.column_stack([found.boxes_n4, found.scores_n, found.classes_n])
    assert np.allclose(made, np.array(expected, np.float64).reshape(-1, 6), atol=1e-3)


@pytest.mark.parametrize("layout", detectors.names())
def test_nothing_over_the_threshold_is_no_box(layout):
    assert len(find(layout).decode(rows_of(layout, 0), SIZE_HW, 1.0)) == 0


@pytest.mark.parametrize("layout", detectors.names())
def test_recognized_without_metadata(layout):
    outputs = rows_of(layout, 0)
    assert recognize(FakeNetwork([image()], outputs)) == layout


@given(
    seed=seeds,
    n=st.integers(0, 9),
    batched=st.booleans(),
    fixed=st.booleans(),
    order=st.permutations(["boxes", "labels", "scores"]),
)
@example(seed=0, n=4, batched=True, fixed=True, order=["scores", "labels", "boxes"])
@example(seed=0, n=4, batched=True, fixed=False, order=["labels", "scores", "boxes"])
def test_boxes_labels_and_scores_are_told_apart_however_many_and_in_whatever_order(seed, n, batched, fixed, order):
    random = np.random.default_rng(seed)
    boxes_n4, scores_n = random.random((n, 4), np.float32), random.random(n, np.float32)
    arrays = {"boxes": boxes_n4, "labels": random.integers(0, 90, n), "scores": scores_n}
    answers = {f"o{i}": arrays[name][None] if batched else arrays[name] for i, name in enumerate(order)}
    shapes = {name: tuple(side if fixed or side in (1, 4) else None for side in a.shape) for name, a in answers.items()}
    assert recognize(FakeNetwork([image()], answers, shapes=shapes)) == "ssd"
    found = find("ssd").decode(answers, SIZE_HW, -1.0)
    assert found.boxes_n4.tolist() == boxes_n4.tolist()
    assert found.scores_n.tolist() == scores_n.tolist()
    assert found.classes_n.tolist() == arrays["labels"].tolist()


def test_older_rtdetr_of_ultralytics_is_recognized():
    assert recognize(network_of(np.zeros((1, 300, 84), np.float32), size_hw=(640, 640))) == "rtdetr"


def test_detr_whose_logits_have_a_class_for_no_object_is_not_taken_for_rtdetr():
    outputs = {"pred_boxes": np.zeros((1, 100, 4), np.float32), "logits": np.zeros((1, 100, 92), np.float32)}
    with pytest.raises(InputError, match="known detector"):
        recognize(FakeNetwork([image()], outputs))


def test_a_tensorflow_export_of_coco_counts_road_users_and_takes_a_picture_of_bytes():
    outputs = rows_of("ssd_tensorflow", 0) | {"raw_detection_scores": np.zeros((1, 99, 91), np.float32)}
    outputs["detection_boxes"][0, 0], outputs["detection_classes:0"][0, :2] = (0.25, 0.5, 0.5, 1.0), (3, 44)
    outputs["detection_scores"][:] = 0
    outputs["detection_scores"][0, :2] = 0.9
    network = FakeNetwork([Tensor("image_tensor", "uint8", (1, None, None, 3))], outputs)
    with pytest.raises(InputError, match=r"input.size_hw"):
        resolve_config(network, DetectorConfig())
    config = resolve_config(network, DetectorConfig(input=replace(find("ssd_tensorflow").INPUT, size_hw=(300, 300))))
    found = Detector(network, config).detect(np.full((64, 96, 3), (10, 20, 30), np.uint8))
    assert found.boxes_n4.tolist() == [[48, 16, 96, 32]]
    assert config.names[found.classes_n[0]] == "car"
    fed = network.fed["image_tensor"]
    assert (fed.dtype, fed.shape, fed[0, 0, 0].tolist()) == (np.uint8, (1, 300, 300, 3), [30, 20, 10])


def test_an_unknown_layout_is_refused_with_what_was_found():
    network = network_of(np.zeros((1, 7, 9, 11), np.float32), head="odd")
    with pytest.raises(InputError, match=r"output0 float32 \(1, 7, 9, 11\).*head: odd.*choose|state one"):
        recognize(network)


def test_a_network_that_finds_no_boxes_is_refused_by_its_metadata():
    with pytest.raises(InputError, match="known detector"):
        recognize(network_of(np.zeros((1, 56, 126), np.float32), task="pose"))


def test_names_that_do_not_count_to_the_classes_refuse_the_layout():
    with pytest.raises(InputError, match="known detector"):
        recognize(network_of(np.zeros((1, 39, 126), np.float32), names="{0: 'car', 1: 'bus', 2: 'truck'}"))


@pytest.mark.parametrize("names", ["{0: ", "[1", "{1: 'car'}", "__import__('os')", "(" * 500])
def test_broken_names_are_no_names(names):
    assert detectors.class_names(network_of(np.zeros((1, 7, 126), np.float32), names=names), "yolov8") == ()


def test_eighty_classes_are_those_of_coco():
    assert detectors.class_names(network_of(np.zeros((1, 84, 126), np.float32)), "yolov8")[2] == "car"


def test_a_layout_that_is_not_there_names_those_that_are():
    with pytest.raises(InputError, match="yolox"):
        find("yolo99")


def test_a_file_without_an_image_input_is_refused():
    network = network_of(np.zeros((1, 7, 126), np.float32))
    network.inputs = ()
    with pytest.raises(InputError, match="no input for a picture"):
        recognize(network)


def test_a_long_metadata_value_is_cut():
    assert len(describe(network_of(np.zeros((1, 7, 126), np.float32), note="x" * 5000))) < 300
