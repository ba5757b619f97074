"""The fp16 graph computes in half precision but where half precision cannot hold the numbers."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from core.bundle.contract import TOLERANCE
from export.graph.nodes import Graph
from export.precision.fp16 import find_overflowing, to_fp16
from export.precision.fp32 import to_onnx
from export.quantize import calibration
from export.verify.parity import run_onnx
from models.deployed import DeployedNetwork


def peaks_of(model, images):
    tensors = [name for node in model.graph.node for name in node.output]
    return calibration.find_peaks(calibration.Observer(model, tensors), images, np.arange(len(images)))


@pytest.fixture(scope="module")
def huge(pack):
    """A network whose second convolution reaches past 65504, and whose third brings it back."""
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 1), nn.ReLU(), nn.Conv2d(8, 8, 1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3),
    )  # fmt: skip
    layers[2].weight.data *= 3e5
    layers[4].weight.data /= 3e5
    layers[8].weight.data *= 100
    fp32 = to_onnx(DeployedNetwork(layers, (0.45,) * 3, (0.1,) * 3).eval(), 32)
    return fp32, np.ascontiguousarray(pack.images_nhwc[:12])


def test_it_follows_fp32_and_halves_the_file(fp32, pack):
    half = to_fp16(fp32)
    rows = pack.rows("val")
    assert (
        np.abs(run_onnx(half, pack.images_nhwc, rows) - run_onnx(fp32, pack.images_nhwc, rows)).max()
        < TOLERANCE["fp16"]
    )
    assert half.ByteSize() < 0.55 * fp32.ByteSize()


def test_weights_are_half_and_input_and_output_are_not(fp32):
    half = to_fp16(fp32)
    graph = Graph(half)
    assert {graph.array(node.input[1]).dtype for node in graph.weighted} == {np.dtype(np.float16)}
    assert half.graph.input[0].type.tensor_type.elem_type == TensorProto.UINT8
    assert half.graph.output[0].type.tensor_type.elem_type == TensorProto.FLOAT
    softmax = graph.nodes[-1]
    assert softmax.op_type == "Softmax"
    assert graph.producer[softmax.input[0]].op_type in {"Div", "Cast"}


def test_what_fp16_cannot_hold_is_named(huge):
    fp32, images = huge
    convolutions = [node.name for node in Graph(fp32).weighted]
    kept = find_overflowing(fp32, peaks_of(fp32, images))
    assert set(convolutions[1:3]) <= set(kept)
    assert not {convolutions[0], convolutions[3]} & set(kept)


def test_an_overflow_is_nonsense_unless_its_node_stays_in_fp32(huge):
    fp32, images = huge
    rows = np.arange(len(images))
    right = run_onnx(fp32, images, rows)
    assert not np.abs(run_onnx(to_fp16(fp32), images, rows) - right).max() < TOLERANCE["fp16"]
    kept = find_overflowing(fp32, peaks_of(fp32, images))
    assert np.abs(run_onnx(to_fp16(fp32, kept), images, rows) - right).max() < TOLERANCE["fp16"]


def test_shapes_stay_whole_numbers():
    nodes = [
        helper.make_node("Cast", ["frames"], ["x"], "cast", to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["x", "w"], ["y"], "matmul"),
        helper.make_node("Shape", ["y"], ["s"], "shape"),
        helper.make_node("Reshape", ["y", "s"], ["z"], "reshape"),
        helper.make_node("Softmax", ["z"], ["probs"], "softmax"),
    ]
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, ["n", 4])],
        [helper.make_tensor_value_info("probs", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(np.ones((4, 3), np.float32), "w")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(to_fp16(model), full_check=True)
