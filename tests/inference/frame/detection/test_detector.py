"""The open detector: what counts, overlaps, bounds, the place of the picture in the input."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import DeviceError, InputError
from core.geometry.detector_config import DetectorConfig, DetectorInput
from inference.backends import Tensor
from inference.detectors import Detections
from inference.frame.detection.detector import Detector, resolve_config, suppress_overlaps
from inference.frame.detection.letterbox import Letterbox, place_picture, to_picture
from tests.inference.detectors.networks import FakeNetwork, image, network_of

NAMES = "{0: 'person', 1: 'car', 2: 'tree'}"
FRAME = np.zeros((64, 96, 3), np.uint8)


def rows(*found: tuple[float, ...]) -> np.ndarray:
    """Return end-to-end output: x0, y0, x1, y1, score, class."""
    return np.array([found or [(0.0,) * 6]], np.float32).reshape(1, -1, 6)


def detect(*found, config: DetectorConfig | None = None, frame=FRAME) -> Detections:
    network = network_of(rows(*found), names=NAMES, end2end="True")
    return Detector(network, resolve_config(network, config or DetectorConfig())).detect(frame)


def test_only_road_users_count_where_names_are_known():
    found = detect((0, 0, 9, 9, 0.9, 1), (20, 20, 40, 40, 0.9, 2))
    assert found.classes_n.tolist() == [1]


def test_classes_that_count_are_given_by_name_or_number():
    boxes = (0, 0, 9, 9, 0.9, 1), (20, 20, 40, 40, 0.8, 2)
    assert detect(*boxes, config=DetectorConfig(counts=("tree",))).classes_n.tolist() == [2]
    assert detect(*boxes, config=DetectorConfig(counts=("1", "2"))).classes_n.tolist() == [1, 2]


def test_every_class_of_a_name_counts():
    boxes = (0, 0, 9, 9, 0.9, 0), (20, 20, 40, 40, 0.8, 1), (50, 20, 60, 40, 0.7, 2)
    config = DetectorConfig(names=("car", "tree", "car"))
    assert detect(*boxes, config=config).classes_n.tolist() == [0, 2]


def test_a_class_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(InputError, match=r"no class 'tank'.*person, car, tree"):
        detect(config=DetectorConfig(counts=("tank",)))


def test_boxes_under_the_threshold_are_left_out():
    assert len(detect((0, 0, 9, 9, 0.4, 1), config=DetectorConfig(threshold=0.5))) == 0


def test_five_hundred_boxes_become_the_best_few():
    random = np.random.default_rng(0)
    corner = random.uniform(0, 58, (500, 2))
    many = np.column_stack([corner, corner + 4, random.uniform(0.5, 1, 500), np.ones(500)])
    found = detect(*map(tuple, many), config=DetectorConfig(most=16, overlap=1.0))
    assert found.scores_n.tolist() == sorted(many[:, 4].astype(np.float32).tolist(), reverse=True)[:16]


def test_boxes_that_are_no_boxes_are_left_out():
    assert len(detect((0, 0, np.inf, 9, 0.9, 1), (9, 9, 0, 0, 0.9, 1), (0, 0, 9, 9, np.inf, 1))) == 0


@pytest.mark.parametrize("column", [0, 4])
def test_an_answer_with_nan_in_it_is_none(column):
    broken = [0.0, 0.0, 9.0, 9.0, 0.9, 1.0]
    broken[column] = np.nan
    assert detect((0, 0, 9, 9, 0.9, 1), tuple(broken)) is None


def test_boxes_outside_the_picture_are_left_out():
    config = DetectorConfig(input=DetectorInput(fit="top_left"))
    outside_in_the_padding = (0, 50, 9, 60, 0.9, 1)
    frame = np.zeros((32, 96, 3), np.uint8)
    assert len(detect(outside_in_the_padding, (0, 0, 9, 9, 0.9, 1), config=config, frame=frame)) == 1


def test_boxes_in_the_padding_take_the_place_of_none_in_the_picture():
    """Neither among the best few, nor by overlapping one that reaches into the picture."""
    config = DetectorConfig(input=DetectorInput(fit="top_left"), most=1)
    frame = np.zeros((32, 96, 3), np.uint8)
    in_the_padding, at_the_edge = (0, 33, 40, 60, 0.9, 1), (0, 25, 40, 60, 0.8, 1)
    found = detect(in_the_padding, at_the_edge, config=config, frame=frame)
    assert found.boxes_n4.tolist() == [[0, 25, 40, 32]]


def test_one_object_is_one_box_whatever_its_classes():
    boxes = (0, 0, 20, 20, 0.9, 1), (1, 0, 20, 20, 0.8, 0)
    assert detect(*boxes).classes_n.tolist() == [1]
    assert detect(*boxes, config=DetectorConfig(agnostic=False)).classes_n.tolist() == [1, 0]


@st.composite
def detections(draw):
    n = draw(st.integers(0, 12))
    side = st.integers(0, 20)
    boxes = [(x, y, x + draw(st.integers(1, 20)), y + draw(st.integers(1, 20))) for x, y in
             [(draw(side), draw(side)) for _ in range(n)]]  # fmt: skip
    classes = np.array([draw(st.integers(0, 2)) for _ in range(n)], np.int64)
    scores = np.linspace(0.9, 0.3, n, dtype=np.float32)
    return Detections(np.array(boxes, np.float32).reshape(-1, 4), scores, classes)


def plain_iou(a, b) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


@given(detections(), st.sampled_from([0.31, 0.52, 0.73]), st.booleans())
def test_suppression_equals_the_plain_twin(found, overlap, agnostic):
    kept: list[int] = []
    for i in range(len(found)):
        rivals = [j for j in kept if agnostic or found.classes_n[j] == found.classes_n[i]]
        if all(plain_iou(found.boxes_n4[i], found.boxes_n4[j]) <= overlap for j in rivals):
            kept.append(i)
    assert suppress_overlaps(found, overlap, agnostic=agnostic) == kept


@given(st.sampled_from(["center", "top_left", "stretch"]), st.tuples(st.integers(40, 900), st.integers(40, 900)))
def test_a_box_goes_into_the_input_and_comes_back(fit, picture_hw):
    placed = place_picture(fit, (416, 640), picture_hw)
    gain_x, gain_y = placed.width / picture_hw[1], placed.height / picture_hw[0]
    inside = np.array([[5 * gain_x + placed.left, 6 * gain_y + placed.top,
                        30 * gain_x + placed.left, 35 * gain_y + placed.top]], np.float32)  # fmt: skip
    assert np.allclose(to_picture(inside, placed, picture_hw), [[5, 6, 30, 35]], atol=1e-2)


@given(st.sampled_from(["center", "top_left"]), st.tuples(st.integers(40, 900), st.integers(40, 900)))
def test_the_picture_lies_inside_the_input(fit, picture_hw):
    placed = place_picture(fit, (416, 640), picture_hw)
    assert placed.top >= 0 <= placed.left
    assert placed.top + placed.height <= 416
    assert placed.left + placed.width <= 640
    assert placed.height == 416 or placed.width == 640 or fit == "top_left"


@pytest.mark.parametrize("last", [False, True])
def test_pixels_are_ordered_and_scaled_as_asked(last):
    asked = DetectorInput(fit="center", color="rgb", pad=7, mean=[1.0, 2.0, 3.0], std=[2.0, 4.0, 8.0])
    box = Letterbox(asked, (32, 64), "float32", last)
    placed = box.fill(np.full((32, 32, 3), (10, 20, 30), np.uint8))
    made = box.input[0] if last else box.input[0].transpose(1, 2, 0)
    assert np.allclose(made[5, placed.left + 3], [(30 - 1) / 2, (20 - 2) / 4, (10 - 3) / 8])
    assert np.allclose(made[5, 0], [(7 - 1) / 2, (7 - 2) / 4, (7 - 3) / 8])


def test_the_padding_of_another_size_is_cleared():
    box = Letterbox(DetectorInput(std=1.0), (32, 64), "uint8", True)
    box.fill(np.full((32, 64, 3), 200, np.uint8))
    box.fill(np.full((32, 32, 3), 200, np.uint8))
    assert (box.input[0, :, :8] == 114).all()


def test_only_the_part_to_look_at_is_seen():
    config = DetectorConfig(look_at=(0.5, 0.5, 1.0, 1.0))
    frame = np.zeros((128, 192, 3), np.uint8)
    frame[64:, 96:] = 255
    network = network_of(rows((0, 0, 10, 10, 0.9, 1)), names=NAMES, end2end="True")
    found = Detector(network, resolve_config(network, config)).detect(frame)
    assert found.boxes_n4.tolist() == [[96, 64, 106, 74]]
    assert network.fed["images"].min() == 1.0


def test_a_second_input_is_told_the_size():
    boxes, labels = np.array([[[1, 2, 30, 40]]], np.float32), np.array([[0]])
    outputs = {"labels": labels, "boxes": boxes, "scores": np.array([[0.9]], np.float32)}
    network = FakeNetwork([image(), Tensor("orig_target_sizes", "int64", (1, 2))], outputs)
    found = Detector(network, resolve_config(network, DetectorConfig())).detect(FRAME)
    assert network.fed["orig_target_sizes"].tolist() == [[96, 64]]
    assert found.boxes_n4.tolist() == [[1, 2, 30, 40]]


def test_an_input_of_any_size_must_be_stated():
    network = network_of(rows(), size_hw=(None, None), end2end="True")
    with pytest.raises(InputError, match="size_hw"):
        resolve_config(network, DetectorConfig())
    stated = DetectorConfig(input=replace(DetectorInput(), size_hw=(64, 96)))
    assert resolve_config(network, stated).input.size_hw == (64, 96)


def test_a_detector_that_raises_is_a_device_error():
    network = network_of(rows(), names=NAMES, end2end="True")
    detector = Detector(network, resolve_config(network, DetectorConfig()))
    network.run = lambda feeds: 1 / 0
    with pytest.raises(DeviceError, match="the detector failed"):
        detector.detect(FRAME)


def test_a_part_to_look_at_of_less_than_a_pixel_is_one_pixel():
    assert len(detect(config=DetectorConfig(look_at=(0.5, 0.5, 0.50001, 0.50001)))) == 0


def test_a_size_that_the_network_does_not_take_is_refused():
    stated = DetectorConfig(input=replace(DetectorInput(), size_hw=(640, 640)))
    with pytest.raises(InputError, match=r"takes pictures of \(64, 96\), the detector's input.size_hw is \(640, 640\)"):
        resolve_config(network_of(rows(), end2end="True"), stated)


def test_a_size_goes_before_that_of_the_metadata_where_the_network_takes_any():
    network = network_of(rows(), size_hw=(None, None), end2end="True", imgsz="[64, 96]")
    for size_hw, fed in (((128, 192), (1, 3, 128, 192)), (None, (1, 3, 64, 96))):
        config = DetectorConfig(input=replace(DetectorInput(), size_hw=size_hw))
        Detector(network, resolve_config(network, config)).detect(FRAME)
        assert network.fed["images"].shape == fed


@pytest.mark.parametrize("name", ["\u00b2", "9" * 20])
def test_a_number_that_no_class_has_is_refused(name):
    with pytest.raises(InputError, match="that could count"):
        resolve_config(network_of(rows(), end2end="True"), DetectorConfig(counts=(name,)))


def test_a_number_beyond_the_classes_or_a_list_of_names_of_another_length_is_refused():
    cells = np.zeros((1, 84, 126), np.float32)
    for config in (DetectorConfig(counts=("80",)), DetectorConfig(names=("person", "car"), counts=("car",))):
        with pytest.raises(InputError, match=r"80 classes|no class '80'"):
            resolve_config(network_of(cells), config)
    with pytest.raises(InputError, match="no class '3'"):
        resolve_config(network_of(rows(), names=NAMES, end2end="True"), DetectorConfig(counts=("3",)))
    resolved = resolve_config(network_of(cells), DetectorConfig(counts=("79",)))
    # a bundle holds what was resolved: of COCO's names the first
    assert resolve_config(network_of(cells), resolved) == resolved


def test_a_name_that_is_a_number_is_a_name():
    network = network_of(rows((0, 0, 9, 9, 0.9, 1)), names="{0: '5', 1: '0'}", end2end="True")
    found = Detector(network, resolve_config(network, DetectorConfig(counts=("0",)))).detect(FRAME)
    assert found.classes_n.tolist() == [1]


PICTURES = {
    "two at a time": [Tensor("images", "float32", (2, 3, 64, 96))],
    "gray": [Tensor("images", "float32", (1, 1, 64, 96))],
    "something else besides": [image(), Tensor("scale", "float32", (1, 2))],
    "bytes of 0 to 1": [image(dtype="uint8")],
    "signed bytes": [image(dtype="int8")],
    "a type that numpy lacks": [image(dtype="bfloat16")],
}


@pytest.mark.parametrize("inputs", PICTURES.values(), ids=PICTURES)
def test_an_input_that_the_picture_does_not_fit_is_refused(inputs):
    network = FakeNetwork(inputs, {"output0": rows()}, {"end2end": "True"})
    with pytest.raises(InputError, match=r"fake.onnx (takes|does not take)"):
        resolve_config(network, DetectorConfig())


def test_bytes_take_the_picture_untouched():
    network = FakeNetwork([image(dtype="uint8")], {"output0": rows()}, {"end2end": "True"})
    Detector(network, resolve_config(network, DetectorConfig(input=DetectorInput(std=1.0)))).detect(FRAME + 7)
    assert np.unique(network.fed["images"]).tolist() == [7]


@pytest.mark.parametrize("told", ["[1e999, 64]", "-" * 100_000 + "1"])
def test_a_broken_size_in_the_metadata_is_no_size(told):
    with pytest.raises(InputError, match="pictures of any size"):
        resolve_config(network_of(rows(), size_hw=(None, None), end2end="True", imgsz=told), DetectorConfig())


@pytest.mark.filterwarnings("error")
def test_numbers_beyond_any_type_are_no_warning():
    detect((1e30, 0, 2e38, 50, 0.9, 1), (0, 0, 9, 9, 0.9, 1e30), (0, 0, 9, 9, 0.9, np.inf))
