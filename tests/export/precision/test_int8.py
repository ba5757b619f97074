"""Both int8 forms are what their runtimes need, and give the same numbers."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import numpy_helper
from torch import nn

import models
from core.bundle.contract import TOLERANCE
from export.graph.nodes import Graph
from export.precision import int8
from export.precision.fp32 import to_onnx
from export.quantize import calibration
from export.verify.parity import run_onnx
from models.deployed import DeployedNetwork


def both_forms(fp32, images, kept_float=()):
    plan = int8.plan_quantization(fp32, kept_float)
    histograms = calibration.build_histograms(calibration.Observer(fp32, plan.tensors), images, np.arange(len(images)))
    signed = int8.quantize(fp32, plan, calibration.choose_ranges(histograms, "minmax"))
    return signed, int8.to_unsigned(signed)


@pytest.fixture(scope="module")
def forms(fp32, pack):
    return both_forms(fp32, pack.images_nhwc[pack.rows("calibration")])


@pytest.fixture(scope="module")
def relu6(pack):
    """A network of depthwise blocks with ReLU6 that really saturates, a shortcut and a linear head."""
    torch.manual_seed(0)

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(
                nn.Conv2d(16, 16, 3, 1, 1, groups=16), nn.ReLU6(), nn.Conv2d(16, 16, 1), nn.ReLU6()
            )

        def forward(self, x):
            return x + self.layers(x)

    network = nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU6(), Block(), Block(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 3)
    )
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, a=-0.7)
    fp32 = to_onnx(DeployedNetwork(network, (0.45,) * 3, (0.1,) * 3).eval(), 32)
    images = pack.images_nhwc[pack.rows("calibration")]
    return fp32, *both_forms(fp32, images), images


def values(model):
    return {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}


def test_tensorrts_form_is_symmetric_everywhere(forms):
    zeros = {name: value for name, value in values(forms[0]).items() if name.endswith("_zero")}
    assert all(value.dtype == np.int8 and not value.any() for value in zeros.values())
    assert len(zeros) > 20


def test_weights_are_quantized_per_channel_and_biases_are_not(forms):
    graph = Graph(forms[0])
    for node in (n for n in graph.nodes if n.op_type == "Conv"):
        dequantize = graph.producer[node.input[1]]
        levels, scales = graph.array(dequantize.input[0]), graph.array(dequantize.input[1])
        assert levels.dtype == np.int8
        assert scales.shape == (levels.shape[0],)
        assert graph.array(node.input[2]).dtype == np.float32


def test_every_convolution_reads_dequantized_tensors(forms):
    graph = Graph(forms[0])
    convolutions = [n for n in graph.nodes if n.op_type == "Conv"]
    assert len(convolutions) == 26
    assert all(graph.producer[name].op_type == "DequantizeLinear" for n in convolutions for name in n.input[:2])


def test_normalisation_and_everything_after_the_last_layer_stay_in_float(forms):
    graph = Graph(forms[0])
    assert graph.producer[graph.nodes[-1].output[0]].op_type == "Softmax"
    last = max(i for i, n in enumerate(graph.nodes) if n.op_type == "Conv")
    assert not [n for n in graph.nodes[last:] if "Linear" in n.op_type]
    normalise = next(n for n in graph.nodes if n.op_type == "BatchNormalization")
    assert graph.producer[normalise.input[0]].op_type == "Transpose"


def test_the_forms_differ_in_zero_points_and_channels_of_zeros_alone(forms):
    signed, unsigned = (values(form) for form in forms)
    first = "network.0.0.weight_q"
    assert unsigned.keys() - signed.keys() == {"add_q_pads"}
    assert not unsigned[first][:, 3:].any()
    unsigned[first] = unsigned[first][:, :3]
    del unsigned["add_q_pads"]
    changed = {name for name in signed if not np.array_equal(signed[name], unsigned[name])}
    zeros = {name for name in changed if name.endswith("_zero")}
    assert changed == zeros
    assert {int(unsigned[name]) for name in zeros} == {128}
    rectified = [n for n in Graph(forms[1]).nodes if n.op_type == "QuantizeLinear" and n.input[0].startswith("relu")]
    assert rectified
    assert all(unsigned[n.input[2]].dtype == np.uint8 and unsigned[n.input[2]] == 0 for n in rectified)


@pytest.mark.parametrize("which", ["forms", "relu6"])
def test_both_forms_agree_within_tolerance_and_follow_fp32(request, fp32, pack, which):
    made = request.getfixturevalue(which)
    fp, signed, unsigned, images = made if which == "relu6" else (fp32, *made, pack.images_nhwc[pack.rows("val")])
    rows = np.arange(len(images))
    floats, a, b = (run_onnx(m, images, rows, exact=m is not fp) for m in (fp, signed, unsigned))
    assert np.abs(a - b).max() < TOLERANCE["int8"]
    assert np.abs(a - floats).max() < 0.1
    assert np.abs(a - floats).max() > 0
    fused = run_onnx(unsigned, images, rows)  # where it rounds depends on the machine: its mean is held, not its worst
    assert np.abs(fused - floats).mean() < 0.03


def test_a_fourth_channel_of_zeros_changes_no_number(forms, pack, monkeypatch):
    monkeypatch.setattr(int8, "CHANNELS", 1)
    plain, rows = int8.to_unsigned(forms[0]), np.arange(32)
    assert not [node for node in plain.graph.node if node.op_type == "Pad"]
    assert np.array_equal(*(run_onnx(model, pack.images_nhwc, rows) for model in (plain, forms[1])))


def fused(model, tmp_path):
    """Return the operators of the graph that ONNX Runtime really runs."""
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3
    ort.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]


def test_onnx_runtime_fuses_every_layer_but_the_last(forms, tmp_path):
    kinds = fused(forms[1], tmp_path)
    assert kinds.count("QLinearConv") == 25
    assert kinds.count("QuantizeLinear") == 1  # of the normalised input
    assert not {"Relu", "Concat"} & set(kinds)


def test_onnx_runtime_folds_relu6_into_the_convolution(relu6, tmp_path):
    kinds = fused(relu6[2], tmp_path)
    assert kinds.count("QLinearConv") == 5
    assert "Clip" not in kinds
    assert "QLinearAdd" in kinds


def test_a_layer_given_back_stays_in_float_and_reads_the_float_tensor(fp32, pack):
    node = Graph(fp32).weighted[3]
    signed, _ = both_forms(fp32, pack.images_nhwc[:8], [node.name])
    graph = Graph(signed)
    kept = next(n for n in graph.nodes if n.name == node.name)
    assert list(kept.input) == list(node.input)
    assert kept.input[1] in graph.constants


def test_a_dead_tensor_gets_a_scale_above_zero(fp32):
    plan = int8.plan_quantization(fp32)
    signed = int8.quantize(fp32, plan, dict.fromkeys(plan.tensors, 0.0))
    assert all((value > 0).all() for name, value in values(signed).items() if name.endswith("_scale"))


def test_only_floats_are_quantized(pack):
    """A transformer joins the pieces of a shape by Concat, too: whole numbers, which no runtime quantizes."""
    torch.manual_seed(0)
    arch = "timm/test_vit"
    fp32 = to_onnx(DeployedNetwork(models.build(arch, 3, size_px=32), *models.normalization(arch)).eval(), 32)
    assert any(node.op_type == "Concat" and node.input[0] not in Graph(fp32).floats for node in fp32.graph.node)
    images = pack.images_nhwc[pack.rows("calibration")][:8]
    signed, unsigned = both_forms(fp32, images)
    probs = [run_onnx(model, images, np.arange(8), exact=True) for model in (fp32, signed, unsigned)]
    assert np.abs(probs[1] - probs[0]).max() < TOLERANCE["int8"]
    assert np.abs(probs[2] - probs[0]).max() < TOLERANCE["int8"]
