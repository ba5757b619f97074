"""Quantize an fp32 ONNX graph to int8 with explicit QuantizeLinear and DequantizeLinear nodes (Q/DQ), in two forms.

The signed form, for TensorRT, is symmetric int8 (zero point 0), with weights per channel and biases in float. The
unsigned form, for runtimes on a CPU, is derived from it: uint8 activations with other zero points, smaller scales
behind a ReLU6, and a channel of zeros that changes no number. Two are needed because TensorRT takes no zero point but
0, and ONNX Runtime is fast only on unsigned activations. Normalization, logits, temperature and softmax stay in float.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from export.graph.nodes import (
    RECTIFIERS,
    WEIGHTED,
    Graph,
    attribute,
    drop_unread,
    output_axis,
    per_channel,
    replace_nodes,
)

SAME_RANGE = ("MaxPool", "Concat", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose")
"""Operators that move values without computing. Their tensors share one scale, so that they run on the bytes."""
QUANTIZED = ("Add", "GlobalAveragePool", "AveragePool", "MaxPool", "Concat")
"""Operators that run on bytes besides convolutions and matrix products."""
MAX_LEVEL = 127
"""Steps from 0 to the largest magnitude of a symmetric int8 tensor."""
TINY = 1e-6
"""The smallest range: a tensor that is always 0 still needs a scale above 0."""
CHANNELS = 4
"""ONNX Runtime's fast int8 convolution reads input channels in groups of this size. Source: MlasConvSymPackWSize."""


@dataclass(frozen=True)
class QuantizationPlan:
    """The activations that get a Q/DQ pair, and the weights that are quantized."""

    groups: tuple[frozenset[str], ...]
    """Activations that share one scale."""
    weights: dict[str, int]
    """{initializer: the axis of its output channels}."""
    kept_float: frozenset[str]
    """Names of nodes that stay in float."""

    @property
    def tensors(self) -> frozenset[str]:
        """Every activation that is quantized."""
        return frozenset().union(*self.groups) if self.groups else frozenset()


def plan_quantization(model: onnx.ModelProto, kept_float: Iterable[str] = ()) -> QuantizationPlan:
    """Choose what to quantize in an fp32 graph. kept_float: names of nodes that stay in float."""
    graph, kept = Graph(model), frozenset(kept_float)
    weighted = [node for node in graph.weighted if node.name not in kept]
    # past the last weighted layer int8 is no faster, and the logits would lose their precision
    allowed = graph.upstream_of(weighted) & graph.floats
    tensors: set[str] = set()
    for node in graph.nodes:
        if node.name not in kept and _runs_on_bytes(graph, node):
            tensors |= allowed.intersection(graph.activations(node))
    return QuantizationPlan(_groups(graph, tensors), {node.input[1]: output_axis(node) for node in weighted}, kept)


def _runs_on_bytes(graph: Graph, node: onnx.NodeProto) -> bool:
    """Tell whether a node can compute in int8. An Add with a constant cannot: it is an offset, as in normalization."""
    activations = 2 if node.op_type == "Add" else len(node.input)
    return graph.is_weighted(node) or (node.op_type in QUANTIZED and len(graph.activations(node)) == activations)


def _groups(graph: Graph, tensors: set[str]) -> tuple[frozenset[str], ...]:
    """Join the tensors on both sides of every SAME_RANGE node; the order is fixed, so that the file's bytes are too."""
    sides = [
        tensors.intersection([*graph.activations(node), *node.output])
        for node in graph.nodes
        if node.op_type in SAME_RANGE
    ]
    joined = _join([*({name} for name in tensors), *sides])
    return tuple(sorted(map(frozenset, joined), key=sorted))


def _join(sets: Iterable[set[str]]) -> list[set[str]]:
    """Merge the sets that have a member in common, and leave out empty ones."""
    # one pass is enough: a set that meets several joined ones merges them all
    joined: list[set[str]] = []
    for names in filter(None, sets):
        apart = [other for other in joined if not other & names]
        joined = [*apart, names.union(*(other for other in joined if other & names))]
    return joined


def quantize(model: onnx.ModelProto, plan: QuantizationPlan, amax: Mapping[str, float]) -> onnx.ModelProto:
    """Return the signed form. amax: the largest magnitude to represent, of each tensor of the plan."""
    quantized = deepcopy(model)
    # one scale for all tensors of a group, wide enough for the widest of them
    scales: dict[str, float] = {}
    for group in plan.groups:
        scales |= dict.fromkeys(group, max(max(amax[member] for member in group), TINY) / MAX_LEVEL)
    pairs: dict[str, list[onnx.NodeProto]] = {}
    constants: list[onnx.TensorProto] = []
    # sorted: the order of a set of names changes with each process, and the file's bytes with it
    for name in sorted(plan.tensors):
        constants += _parameters(name, np.float32(scales[name]))
        pairs[name] = [
            _linear("QuantizeLinear", name, name, f"{name}_q"),
            _linear("DequantizeLinear", name, f"{name}_q", f"{name}_dq"),
        ]
    graph = Graph(model)
    weight_nodes: list[onnx.NodeProto] = []
    for name, axis in sorted(plan.weights.items()):
        # weights are constants: they are stored as int8 and need the DequantizeLinear alone
        constants += _quantized_weights(name, np.asarray(graph.array(name), np.float32), axis)
        weight_nodes.append(_linear("DequantizeLinear", name, f"{name}_q", f"{name}_dq", axis=axis))
    _rewire(quantized, plan, pairs, weight_nodes)
    quantized.graph.initializer.extend(constants)
    drop_unread(quantized)
    onnx.checker.check_model(quantized, full_check=True)
    return quantized


def _parameters(name: str, scale: np.float32) -> list[onnx.TensorProto]:
    return [
        numpy_helper.from_array(np.asarray(scale), f"{name}_scale"),
        numpy_helper.from_array(np.asarray(0, np.int8), f"{name}_zero"),
    ]


def _quantized_weights(name: str, weights: np.ndarray, axis: int) -> list[onnx.TensorProto]:
    """Return a layer's weights as int8, with a scale and a zero point for each output channel."""
    peaks = np.abs(weights).max(tuple(other for other in range(weights.ndim) if other != axis))
    scales = (np.maximum(peaks, TINY) / MAX_LEVEL).astype(np.float32)
    # rounded half to even, as QuantizeLinear does; -128 is left out, so that the range is symmetric
    levels = np.rint(weights / per_channel(scales, axis, weights.ndim))
    levels = np.clip(levels, -MAX_LEVEL, MAX_LEVEL).astype(np.int8)
    return [
        numpy_helper.from_array(levels, f"{name}_q"),
        numpy_helper.from_array(scales, f"{name}_scale"),
        numpy_helper.from_array(np.zeros(len(scales), np.int8), f"{name}_zero"),
    ]


def _linear(op_type: str, tensor: str, source: str, output: str, **axis: Any) -> onnx.NodeProto:
    """Return a QuantizeLinear or DequantizeLinear with the scale and the zero point of `tensor`."""
    inputs = [source, f"{tensor}_scale", f"{tensor}_zero"]
    return helper.make_node(op_type, inputs, [output], name=f"{op_type}_{tensor}", **axis)


def _rewire(
    model: onnx.ModelProto,
    plan: QuantizationPlan,
    pairs: Mapping[str, list[onnx.NodeProto]],
    weight_nodes: list[onnx.NodeProto],
) -> None:
    """Make every reader but the layers kept in float read the dequantized tensor; put each pair after its producer."""
    # ONNX wants every tensor made before it is read: weights and inputs first, each other pair behind its producer
    nodes = list(weight_nodes)
    inputs = sorted({item.name for item in model.graph.input})
    nodes += [half for name in inputs for half in pairs.get(name, [])]
    for node in model.graph.node:
        # a layer kept in float goes on reading the float tensor, which its producer still makes
        if node.name not in plan.kept_float:
            for i, name in enumerate(node.input):
                if name in pairs or (i == 1 and name in plan.weights):
                    node.input[i] = f"{name}_dq"
        nodes.append(node)
        nodes += [half for name in node.output for half in pairs.get(name, [])]
    replace_nodes(model, nodes)


def to_unsigned(model: onnx.ModelProto) -> onnx.ModelProto:
    """Derive the unsigned form: activations become uint8, with another zero point (the level that stands for 0.0).

    A tensor that can be negative gets zero point 128: level 0 of int8 is level 128 of uint8, and every number stays.
    One that is never negative, as behind a ReLU, gets zero point 0. Its numbers stay too, and levels 128 to 255, for
    which int8 has no place, now hold what int8 would have clipped. Below an upper bound (ReLU6) the scale shrinks so
    that the bound is level 255: only then does the runtime fold the bound into the convolution.
    """
    derived = deepcopy(model)
    graph = Graph(derived)
    bounds = _bounds(graph)
    values = {item.name: item for item in derived.graph.initializer}
    quantizers = [node for node in graph.nodes if node.op_type == "QuantizeLinear"]
    shared = _one_zero_per_scale(graph, quantizers, bounds)
    # QuantizeLinear and DequantizeLinear of a tensor read the same two constants: changing those changes both nodes
    for node in quantizers:
        name, (low, high) = node.input[0], shared[node.output[0]]
        scale = float(numpy_helper.to_array(values[f"{name}_scale"]))
        if low >= 0 and high < 255 * scale:
            # MAX_LEVEL * scale is the range that calibration chose; a rounding must not take 255 steps past the bound
            scale = min(MAX_LEVEL * scale, high) / 255 * (1 - 1e-6)
        values[f"{name}_scale"].CopyFrom(numpy_helper.from_array(np.asarray(scale, np.float32), f"{name}_scale"))
        zero = np.asarray(0 if low >= 0 else 128, np.uint8)
        values[f"{name}_zero"].CopyFrom(numpy_helper.from_array(zero, f"{name}_zero"))
    _pad_channels(derived)
    del derived.graph.value_info[:]
    onnx.checker.check_model(derived, full_check=True)
    return derived


def _pad_channels(model: onnx.ModelProto) -> None:
    """Give a convolution of the 3 colors a fourth channel of zeros, in place: the same numbers from the fast kernel.

    Without it a SqueezeNet at 224 px spends 0.71 of 2.8 ms in its first convolution; with it the whole takes 2.1 ms.
    """
    graph = Graph(model)
    pads_before: dict[str, onnx.NodeProto] = {}
    for conv in graph.nodes:
        if conv.op_type != "Conv" or attribute(conv, "group", 1) > 1:
            continue
        data, weights = (graph.producer.get(name) for name in conv.input[:2])
        if data is None or weights is None or {data.op_type, weights.op_type} != {"DequantizeLinear"}:
            continue
        source, name = data.input[0], weights.input[0]
        levels = graph.array(name)
        missing = -levels.shape[1] % CHANNELS  # up to the next multiple
        # another reader of the input or of the weights would see the new channel too
        shared = any(len(graph.consumers[read]) > 1 for read in (conv.input[0], source, name))
        if not missing or shared:
            continue
        channels = [(0, missing if axis == 1 else 0) for axis in range(levels.ndim)]
        graph.constants[name].CopyFrom(numpy_helper.from_array(np.pad(levels, channels), name))
        pads = np.array(channels, np.int64).T.ravel()  # Pad wants all starts, then all ends
        model.graph.initializer.append(numpy_helper.from_array(pads, f"{source}_pads"))
        # padded with the zero point, the level that stands for 0.0: the new channel adds nothing, whatever its weights
        inputs = [source, f"{source}_pads", data.input[2]]
        pads_before[data.name] = helper.make_node("Pad", inputs, [f"{source}_padded"], name=f"Pad_{source}")
        data.input[0] = f"{source}_padded"
    nodes = [node for old in graph.nodes for node in (pads_before.get(old.name), old) if node is not None]
    replace_nodes(model, nodes)


def _bounds(graph: Graph) -> dict[str, tuple[float, float]]:
    """Return the lowest and highest value that each tensor can have, as far as the graph alone tells."""
    bounds: dict[str, tuple[float, float]] = {}
    anything = (-float("inf"), float("inf"))
    # one pass: in an ONNX graph every node stands behind those that make its inputs
    for node in graph.nodes:
        inputs = [bounds.get(name, anything) for name in graph.activations(node)] or [anything]
        if node.op_type in RECTIFIERS:
            low, high = graph.clip_bounds(node)
            bound = (max(low, inputs[0][0]), min(high, inputs[0][1]))
        elif node.op_type in {"Sigmoid", "HardSigmoid", "Softmax"}:
            bound = (0.0, 1.0)
        elif node.op_type in {*SAME_RANGE, *QUANTIZED, "QuantizeLinear", "DequantizeLinear"} - {"Add"}:
            # an average, a maximum or a copy leaves no value outside the range of its inputs
            bound = (min(low for low, _ in inputs), max(high for _, high in inputs))
        elif node.op_type == "Add" and len(inputs) == 2:
            bound = (inputs[0][0] + inputs[1][0], inputs[0][1] + inputs[1][1])
        else:
            bound = anything
        bounds |= dict.fromkeys(node.output, bound)
    return bounds


def _one_zero_per_scale(
    graph: Graph, quantizers: list[onnx.NodeProto], bounds: dict[str, tuple[float, float]]
) -> dict[str, tuple[float, float]]:
    """Return the bounds of quantized tensors, the same for those on both sides of a SAME_RANGE node.

    They share a scale; the same bounds give them the same zero point too, which a node that copies bytes needs.
    """
    shared = {node.output[0]: bounds[node.output[0]] for node in quantizers}
    sides = []
    for node in graph.nodes:
        if node.op_type in SAME_RANGE:
            # behind the node its outputs are quantized; before it its inputs were dequantized
            made = [reader.output[0] for name in node.output for reader in graph.consumers[name]]
            read = [graph.producer[name].input[0] for name in node.input if name in graph.producer]
            sides.append({*made, *read} & shared.keys())
    for names in _join(sides):
        widest = (min(shared[name][0] for name in names), max(shared[name][1] for name in names))
        shared |= dict.fromkeys(names, widest)
    return shared


def float_layers(model: onnx.ModelProto, kept_float: Iterable[str] = ()) -> dict[str, str]:
    """Return {node: reason} of the convolutions and matrix products of an int8 graph that compute in float."""
    graph, kept = Graph(model), set(kept_float)
    found = {}
    for node in graph.nodes:
        if node.op_type not in WEIGHTED:
            continue
        makers = [graph.producer.get(name) for name in node.input[:2]]
        if all(maker is not None and maker.op_type == "DequantizeLinear" for maker in makers):
            continue
        if node.name in kept:
            found[node.name] = "given back by the search: in int8 the gate fails"
        elif node.input[1] not in graph.constants:
            found[node.name] = "it multiplies two activations: it has no weights to quantize"
        else:
            found[node.name] = "its input is not quantized"
    return found
