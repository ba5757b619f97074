"""The fp32 graph is the network, from bytes to probabilities, and the same bytes every time."""

from __future__ import annotations

import signal

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from core.cli import run_command
from core.errors import CheckError
from export.graph.nodes import Graph
from export.precision.fp32 import OPSET, to_onnx
from export.verify.parity import run_onnx, run_torch
from models.deployed import DeployedNetwork
from tests.export import runs


class Pooled(nn.Module):
    def __init__(self, pooled=1):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(pooled))
        self.head = nn.Linear(8 * pooled * pooled, 3)

    def forward(self, x):
        return self.head(self.layers(x).flatten(1))


def deployed(network):
    return DeployedNetwork(network, (0.4, 0.5, 0.6), (0.3, 0.25, 0.2), 1.5).eval()


@pytest.mark.parametrize("n", [1, 3])
def test_it_gives_torchs_probabilities_at_any_batch(checkpoint, fp32, pack, n):
    rows = pack.rows("val")[:n]
    expected = run_torch(checkpoint.build_network(), pack.images_nhwc, rows)
    assert np.abs(run_onnx(fp32, pack.images_nhwc, rows) - expected).max() < 1e-5


def test_nothing_of_this_machine_is_in_the_file(fp32):
    words = onnx.ModelProto()
    words.CopyFrom(fp32)
    for item in words.graph.initializer:
        item.ClearField("raw_data")  # among millions of random bytes any three letters turn up
    data = words.SerializeToString()
    assert b".py" not in data
    assert b"stack_trace" not in data


def test_batch_norms_are_folded_and_normalisation_is_one_node(fp32):
    kinds = [node.op_type for node in fp32.graph.node]
    assert kinds[:3] == ["Cast", "Transpose", "BatchNormalization"]
    assert kinds.count("BatchNormalization") == 1


def test_input_output_and_opset_are_the_contract(fp32):
    (frames,), (probs,) = fp32.graph.input, fp32.graph.output
    assert (frames.name, frames.type.tensor_type.elem_type) == ("frames", onnx.TensorProto.UINT8)
    assert (probs.name, probs.type.tensor_type.elem_type) == ("probs", onnx.TensorProto.FLOAT)
    assert [item.version for item in fp32.opset_import] == [OPSET]


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_no_number_lies_in_the_file_that_no_node_reads(exported, precision):
    """ONNX Runtime warns of each when it loads the file."""
    graph = onnx.load(exported / runs.ARCH / "bundle" / f"model.{precision}.onnx").graph
    assert {item.name for item in graph.initializer} <= {name for node in graph.node for name in node.input}


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_every_operator_is_one_that_tensorrts_parser_has_had_since_8_5(exported, precision):
    """JetPack 6 has TensorRT 10.3, opsets 9 to 20. Source: onnx-tensorrt, docs/operators.md of 8.5."""
    known = {
        "Add", "AveragePool", "BatchNormalization", "Cast", "Clip", "Concat", "Conv", "DequantizeLinear", "Div",
        "Flatten", "Gemm", "GlobalAveragePool", "MaxPool", "QuantizeLinear", "Relu", "Reshape", "Softmax", "Transpose",
    }  # fmt: skip
    model = onnx.load(exported / runs.ARCH / "bundle" / f"model.{precision}.onnx")
    assert {node.op_type for node in model.graph.node} <= known
    assert {node.domain for node in model.graph.node} == {""}
    assert 9 <= model.opset_import[0].version <= 20


def test_a_stray_file_says_what_it_is(fp32, checkpoint):
    props = {item.key: item.value for item in fp32.metadata_props}
    assert props["rearguard.classes"] == "red,green,blue"
    assert props["rearguard.size_px"] == "32"
    assert len(props["rearguard.contract"]) == 64
    assert props["rearguard.commit"] == checkpoint.metadata.commit


def test_global_pooling_is_one_operator():
    graph = Graph(to_onnx(deployed(Pooled()), 32))
    assert [n.op_type for n in graph.nodes if "Pool" in n.op_type or n.op_type in {"ReduceMean", "Gather"}] == [
        "GlobalAveragePool"
    ]


def test_a_linear_head_behind_pooling_is_a_convolution_of_the_same_numbers():
    torch.manual_seed(0)
    network = deployed(Pooled())
    model = to_onnx(network, 32)
    kinds = [n.op_type for n in model.graph.node]
    assert kinds[-5:] == ["GlobalAveragePool", "Conv", "Flatten", "Div", "Softmax"]
    frames = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    assert np.abs(run_onnx(model, frames, np.arange(4)) - run_torch(network, frames, np.arange(4))).max() < 1e-6


def test_a_network_that_has_no_graph_is_one_sentence():
    class Branching(nn.Module):
        def forward(self, x):
            return x.mean((2, 3)) if float(x.sum()) > 0 else x.amax((2, 3))

    with pytest.raises(CheckError, match="no valid ONNX graph"):
        to_onnx(deployed(Branching()), 32)


def test_normalisation_without_scale_and_offset_is_left_alone():
    class Plain(nn.Module):
        def forward(self, frames_nhwc):
            return torch.softmax(frames_nhwc.float().mean((1, 2)), 1)

    frames = np.full((2, 32, 32, 3), 7, np.uint8)
    assert np.allclose(run_onnx(to_onnx(Plain(), 32), frames, np.arange(2)), 1 / 3)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_that_torch_catches_ends_the_command_all_the_same(monkeypatch, number, code):
    def export(*args, **kwargs):
        try:
            signal.raise_signal(number)
        except BaseException as error:  # as torch does
            raise torch.onnx.OnnxExporterError("Failed to export the model") from error

    monkeypatch.setattr(torch.onnx, "export", export)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell gives its background jobs a deaf SIGINT
    try:
        assert run_command(lambda: to_onnx(deployed(Pooled()), 32)) == code
    finally:
        signal.signal(signal.SIGINT, before)
