"""Each family's export, decoded as its own library decodes it. exports/ is made by make_exports.py."""

import numpy as np
import pytest

from core.errors import InputError
from core.geometry.detector_config import DetectorConfig
from inference import detectors
from inference.frame.detection.detector import Detector, resolve_config
from tests.inference.detectors.networks import Export, export_names

LAYOUTS = {"yolov8n": "yolov8", "yolo11n_nms": "yolo_end2end", "yolo26n_end2end": "yolo_end2end", "yolov5n": "yolov5",
           "rtdetr-resnet50": "rtdetr", "ssdlite": "ssd", "yolox_nano": "yolox"}  # fmt: skip


def detector_of(export: Export) -> Detector:
    asked = DetectorConfig(**export.config, agnostic=False, most=32)
    resolved = resolve_config(export.network, asked)
    everything = tuple(str(n) for n in range(91))
    return Detector(export.network, DetectorConfig(**{**vars(resolved), "counts": everything}))


def own_boxes(export: Export) -> np.ndarray:
    """Return the library's boxes with the highest scores, clipped to the frame, without those that are empty there."""
    boxes = export.boxes[np.argsort(-export.boxes[:, 4], kind="stable")][:32]
    height, width = export.frame.shape[:2]
    boxes[:, :4] = np.clip(boxes[:, :4], 0, [width, height, width, height])
    return boxes[(boxes[:, 2:4] > boxes[:, :2]).all(1)]


def test_all_families_are_stored():
    assert set(LAYOUTS) == set(export_names())


@pytest.mark.parametrize("name", export_names())
def test_recognized_by_its_outputs_and_metadata(name):
    assert resolve_config(Export(name).network, DetectorConfig()).layout == LAYOUTS[name]


@pytest.mark.parametrize("name", export_names())
def test_boxes_are_those_of_its_own_library_within_a_pixel(name):
    export = Export(name)
    found = detector_of(export).detect(export.frame)
    expected = list(own_boxes(export))
    assert len(found) == len(expected) > 5
    for box, score, number in zip(found.boxes_n4, found.scores_n, found.classes_n, strict=True):
        same = [
            i
            for i, row in enumerate(expected)
            if np.abs(row[:4] - box).max() < 1 and abs(row[4] - score) < 1e-4 and row[5] == number
        ]
        assert same, f"the library has no box {box}, {score}, class {number}"
        expected.pop(same[0])


@pytest.mark.parametrize("name", export_names())
def test_the_network_is_fed_what_its_own_library_feeds(name):
    export = Export(name)
    detector_of(export).detect(export.frame)
    fed = next(iter(export.network.fed.values()))
    grey = fed * (1 if LAYOUTS[name] == "yolox" else 255)
    assert np.abs(grey[..., :: export.step, :: export.step] - export.fed).max() <= 1


@pytest.mark.parametrize("name", export_names())
def test_a_layout_that_is_stated_decodes_or_is_refused_in_a_sentence(name):
    export = Export(name)
    for layout in detectors.names():
        refusal = ""
        try:
            resolved = resolve_config(export.network, DetectorConfig(layout=layout))
            Detector(export.network, resolved).detect(np.zeros((64, 96, 3), np.uint8))
        except InputError as error:
            refusal = str(error)
        assert not refusal or f"do not fit the detector's layout {layout!r}" in refusal
