"""Engines of detectors are built here by TensorRT-RTX for devices that are not here; what it refuses is named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from core.bundle.engine_manifest import OF_DETECTOR, load_manifest
from core.errors import CheckError
from core.files import sha256_of_file
from core.geometry.detector_config import DetectorFile
from inference.backends.trt import BuildOptions, build_detector
from inference.commands import build as command
from tests.inference.backends.test_trt_detector import free, save_network, suppressing
from tests.inference.runner.test_region_choice import write_detector

YOLOX = Path(__file__).parents[3] / "shared" / "data" / "detector" / "yolox_nano.onnx"

pytest.importorskip("tensorrt_rtx")


@pytest.fixture
def file(tmp_path):
    return DetectorFile(write_detector(tmp_path / "cars.onnx"))


@pytest.mark.skipif(not YOLOX.is_file(), reason="the detector is not at ../shared/data/detector")
def test_a_real_detector_is_built_for_several_devices_with_its_passport(tmp_path, capsys):
    (tmp_path / "yolox.onnx").write_bytes(YOLOX.read_bytes())
    assert command.main([str(tmp_path / "yolox.onnx"), "--sm", "75", "120", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["target"] for row in rows] == ["sm75", "sm120"]
    for row in rows:
        manifest = load_manifest(Path(row["engine"]), "")
        assert (manifest.onnx, manifest.onnx_sha256) == ("yolox.onnx", sha256_of_file(YOLOX))
        assert (manifest.precision, manifest.contract, manifest.batches) == (OF_DETECTOR, "", (1,))
        assert (manifest.state, manifest.flags["tf32"], manifest.flags["size_hw"]) == ("built", False, [])
        assert manifest.engine_bytes > 1 << 20


def test_a_free_size_is_fixed_in_the_network(file):
    free(file.path, "n", "h", "w")
    engine = build_detector(file, runtime="tensorrt_rtx", sm=86, options=BuildOptions(size_hw=(64, 96)))
    assert load_manifest(engine, "").flags["size_hw"] == [64, 96]


def test_a_suppression_at_the_end_is_refused_by_the_name_of_the_output(tmp_path):
    with pytest.raises(CheckError, match=r"nms\.onnx: the shape of its output picked depends on what the picture"):
        build_detector(DetectorFile(suppressing(tmp_path / "nms.onnx")), runtime="tensorrt_rtx", sm=86)


def test_an_operator_that_the_runtime_lacks_is_named(tmp_path):
    file = suppressing(tmp_path / "nms.onnx", "NonZero")
    with pytest.raises(CheckError, match=r"nms\.onnx does not parse in tensorrt_rtx .* \(NonZero: "):
        build_detector(DetectorFile(file), runtime="tensorrt_rtx", sm=86)
    assert not list(tmp_path.rglob("*.engine*"))


def test_a_file_that_is_no_network_is_one_sentence(tmp_path):
    (tmp_path / "d.onnx").write_bytes(b"no\0graph")
    with pytest.raises(CheckError, match=r"d\.onnx does not parse in tensorrt_rtx") as refused:
        build_detector(DetectorFile(tmp_path / "d.onnx"), runtime="tensorrt_rtx", sm=86)
    assert "\n" not in str(refused.value)


def needs_twenty(path):
    """Write a network of any height whose width must be twenty."""
    nodes = [onnx.helper.make_node("MatMul", ["images", "weights"], ["made"])]
    tensors = [1, 3, "h", "w"], "made", onnx.TensorProto.FLOAT, [1, 3, "h", 5]
    return save_network(path, nodes, tensors, {"weights": np.ones((20, 5), np.float32)})


def test_a_size_that_the_layers_cannot_take_is_one_sentence(tmp_path):
    file = DetectorFile(needs_twenty(tmp_path / "d.onnx"))
    with pytest.raises(CheckError, match=r"d\.onnx cannot take pictures of 32x30 \(") as refused:
        build_detector(file, runtime="tensorrt_rtx", sm=86, options=BuildOptions(size_hw=(32, 30)))
    assert "\n" not in str(refused.value)
    assert build_detector(file, runtime="tensorrt_rtx", sm=86, options=BuildOptions(size_hw=(32, 20))).is_file()
