"""Outputs of a detector that do not fit each other, or no layout, are refused with what they are."""

import numpy as np
import pytest

from core.errors import InputError
from core.geometry.detector_config import DetectorConfig
from inference.frame.detection.detector import Detector, resolve_config
from tests.inference.detectors.networks import FakeNetwork, image

FRAME = np.zeros((64, 96, 3), np.uint8)


def zeros(**shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Return outputs of these shapes; those that are named for whole numbers hold such."""
    return {name: np.zeros(shape, np.int64 if name == "labels" else np.float32) for name, shape in shapes.items()}


TF = {"detection_boxes": (1, 50, 4), "detection_classes": (1, 50), "detection_scores": (1, 50), "num_detections": (1,)}
MISFITS = {
    "ssd: scores of each class": ("ssd", zeros(boxes=(1, 9, 4), labels=(1, 9), scores=(1, 9, 91))),
    "ssd: fewer labels than boxes": ("ssd", zeros(boxes=(1, 9, 4), labels=(1, 8), scores=(1, 9))),
    "rtdetr: fewer boxes than logits": ("rtdetr", zeros(logits=(1, 300, 80), pred_boxes=(1, 200, 4))),
    "tensorflow: more scores than boxes": ("ssd_tensorflow", zeros(**TF | {"detection_scores": (1, 60)})),
    "tensorflow: no number of detections": ("ssd_tensorflow", zeros(**TF | {"num_detections": (0,)})),
    "yolov8: no picture in the batch": ("yolov8", zeros(output0=(0, 84, 126))),
}


@pytest.mark.parametrize(("layout", "outputs"), MISFITS.values(), ids=MISFITS)
def test_outputs_that_do_not_fit_each_other_are_refused_with_file_layout_and_shapes(layout, outputs):
    batches = {name: (None, *array.shape[1:]) for name, array in outputs.items()}
    network = FakeNetwork([image()], outputs, shapes=batches)
    detector = Detector(network, resolve_config(network, DetectorConfig(layout=layout)))
    with pytest.raises(InputError) as caught:
        detector.detect(FRAME)
    assert f"the outputs of fake.onnx cannot be read in the layout {layout!r}" in str(caught.value)
    assert all(f"{name} {array.dtype} {array.shape}" in str(caught.value) for name, array in outputs.items())


@pytest.mark.parametrize("layout", ["", "ssd", "yolox"])
def test_a_network_without_outputs_is_refused(layout):
    with pytest.raises(InputError, match=r"fake\.onnx has no outputs"):
        resolve_config(FakeNetwork([image()], {}), DetectorConfig(layout=layout))


def test_logits_without_a_batch_axis_are_those_of_no_known_detector():
    with pytest.raises(InputError, match="known detector"):
        resolve_config(FakeNetwork([image()], zeros(logits=(300, 80), pred_boxes=(300, 4))), DetectorConfig())
