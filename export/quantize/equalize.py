"""Cross-layer equalization: move scale between a layer and the next, so that int8 serves every channel equally well.

Source: M. Nagel et al., "Data-free quantization through weight equalization and bias correction" (2019), with the
ranges of activations in place of the first layer's weights: those are quantized per channel, activations are not.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from core.geometry.frame import Bytes
from export.graph.nodes import Graph, attribute, input_axis, output_axis, per_channel
from export.quantize.calibration import channel_ranges

PASSING = ("Relu", "MaxPool", "AveragePool", "GlobalAveragePool", "Flatten", "Reshape", "Identity")
"""Operators that a positive factor per channel passes through. ReLU6 is none: its bound would need scaling too."""
ROUNDS = 2
LIMIT = 1e4
"""The largest factor, which a channel that is nearly always 0 would exceed."""


@dataclass(frozen=True)
class LayerPair:
    """A layer and all weighted layers that read it, with only PASSING operators in between."""

    first: onnx.NodeProto
    readers: tuple[onnx.NodeProto, ...]


def find_pairs(model: onnx.ModelProto) -> list[LayerPair]:
    """Return the layers whose output channels can be scaled, in the graph's order."""
    graph = Graph(model)
    found = []
    for node in graph.weighted:
        readers = _readers(graph, node.output[0])
        if readers and all(_fits(graph, node, reader) for reader in readers):
            found.append(LayerPair(node, tuple(readers)))
    return found


def _readers(graph: Graph, name: str) -> list[onnx.NodeProto]:
    """Return the weighted layers that read a tensor, through PASSING operators; none when anything else reads it."""
    found: list[onnx.NodeProto] = []
    for node in graph.consumers[name]:
        if graph.is_weighted(node) and node.input[0] == name:
            found.append(node)
        elif node.op_type in PASSING and (behind := _readers(graph, node.output[0])):
            found += behind
        else:
            return []
    return found


def _fits(graph: Graph, first: onnx.NodeProto, reader: onnx.NodeProto) -> bool:
    """Tell whether the reader's input channels are the first layer's output channels, and no constant is shared."""
    for name in [*first.input[1:], *reader.input[1:]]:
        if name and (name not in graph.constants or len(graph.consumers[name]) > 1):
            return False

    def outputs(node: onnx.NodeProto) -> int:
        return int(graph.array(node.input[1]).shape[output_axis(node)])

    # the weights of a grouped Conv have the input channels of one group: a factor for each fits a depthwise one alone
    groups = attribute(reader, "group", 1)
    inputs = graph.array(reader.input[1]).shape[input_axis(reader)] * groups
    return outputs(first) == inputs and groups in {1, outputs(reader)}


def equalize(model: onnx.ModelProto, images_nhwc: Bytes, rows: NDArray[np.int64]) -> tuple[onnx.ModelProto, list[str]]:
    """Return the same function with balanced channels, and the names of the layers that were scaled."""
    balanced = deepcopy(model)
    found = find_pairs(balanced)
    if not found:  # as when a ReLU6 stands between all layers
        return balanced, []
    # a second pass, since scaling one pair changes the ranges that its neighbors were balanced by
    for _ in range(ROUNDS):
        activations = channel_ranges(balanced, [pair.first.output[0] for pair in found], images_nhwc, rows)
        for pair in found:
            _balance(balanced, pair, activations[pair.first.output[0]])
    return balanced, [pair.first.name for pair in found]


def _balance(model: onnx.ModelProto, pair: LayerPair, activation_c: NDArray[np.float32]) -> None:
    """Scale one pair in place: afterwards a channel's activation and its weights in the next layer weigh the same."""
    graph = Graph(model)
    weights_c = np.max([_input_peaks(graph, reader) for reader in pair.readers], axis=0)
    alive = (activation_c > 0) & (weights_c > 0)  # a channel that is always 0, or that nobody reads, keeps its scale
    if not alive.any():
        return
    factors = np.ones(len(activation_c), np.float32)
    # activation / f and weights * f are equally large for f = sqrt(activation / weights)
    factors[alive] = np.sqrt(activation_c[alive] / weights_c[alive])
    factors[alive] /= np.exp(np.log(factors[alive]).mean())  # the layer as a whole keeps its scale
    factors = np.clip(factors, 1 / LIMIT, LIMIT)
    # the first layer is divided, its readers multiplied: what lies between lets a positive factor through unchanged
    inverse = (1 / factors).astype(np.float32)
    _scale(graph, pair.first.input[1], inverse, output_axis(pair.first))
    if len(pair.first.input) > 2 and pair.first.input[2]:  # the bias
        _scale(graph, pair.first.input[2], inverse, 0)
    for reader in pair.readers:
        _scale(graph, reader.input[1], factors, _scaled_axis(reader))


def _scaled_axis(reader: onnx.NodeProto) -> int:
    """Return the axis of a layer's weights that counts its input channels; for a depthwise layer it is the first."""
    depthwise = reader.op_type == "Conv" and attribute(reader, "group", 1) > 1
    return 0 if depthwise else input_axis(reader)


def _input_peaks(graph: Graph, reader: onnx.NodeProto) -> NDArray[np.float32]:
    """Return the largest weight that reads each input channel."""
    magnitudes = np.abs(np.asarray(graph.array(reader.input[1]), np.float32))
    by_input = np.moveaxis(magnitudes, _scaled_axis(reader), 0)
    return np.asarray(by_input.reshape(len(by_input), -1).max(1))


def _scale(graph: Graph, name: str, factors: NDArray[np.float32], axis: int) -> None:
    """Multiply a constant by a factor per channel, in place."""
    array = np.asarray(graph.array(name), np.float32)
    graph.constants[name].CopyFrom(numpy_helper.from_array(array * per_channel(factors, axis, array.ndim), name))
