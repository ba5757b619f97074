"""Convert an fp32 ONNX graph to fp16: all layers compute in half precision, but normalization, temperature, softmax.

Input and output keep their types (uint8 in, float32 out), so that only the numbers differ for a caller.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.graph.nodes import Graph, drop_unread, replace_nodes

HIGHEST = 65504.0
"""The largest finite fp16 number."""
ROOM = 4.0
"""An observed magnitude times this must stay under HIGHEST: other rows and partial sums can be larger."""
KEEP_FLOAT_CONSTANTS = ("Resize",)
"""Operators whose float constants must stay float32: ONNX defines the scales of a Resize for no other type."""


def find_overflowing(model: onnx.ModelProto, amax: Mapping[str, float]) -> list[str]:
    """Return the names of the nodes that read or make a number which fp16 cannot hold.

    amax: {tensor: the largest magnitude observed}; tensors that are not in it, and are no constants, pass.
    """
    graph = Graph(model)
    return [
        node.name
        for node in graph.nodes
        if any(_is_too_high(graph, name, amax) for name in (*node.input, *node.output))
    ]


def _is_too_high(graph: Graph, name: str, amax: Mapping[str, float]) -> bool:
    peak = amax.get(name, 0.0)
    if name in graph.constants:
        value = graph.array(name)
        if value.dtype != np.float32:
            return False
        magnitudes = np.abs(value.astype(np.float64))
        # a Clip without an upper bound has the largest float32 there
        peak = magnitudes.max(initial=0.0, where=magnitudes < np.finfo(np.float32).max)
    return bool(peak * ROOM > HIGHEST)


def to_fp16(model: onnx.ModelProto, kept_float: Iterable[str] = ()) -> onnx.ModelProto:
    """Return the fp16 graph. kept_float: names of nodes that stay in fp32, as `find_overflowing` returns them."""
    converted = deepcopy(model)
    graph = Graph(converted)
    halved = _halved(graph, frozenset(kept_float))
    half_nodes = {node.name for node in halved}
    half_tensors = {name for node in halved for name in node.output}
    casts: dict[str, onnx.NodeProto] = {}
    constants: dict[str, onnx.TensorProto] = {}
    nodes: list[onnx.NodeProto] = []
    for node in graph.nodes:
        half = node.name in half_nodes
        # an input from a node of the other precision goes through a Cast; constants are stored in both
        for i, name in enumerate(node.input):
            if half and name in graph.constants:
                node.input[i] = _half_constant(graph, node, name, constants)
            elif name and half != (name in half_tensors) and _is_float(graph, name):
                node.input[i] = _cast(name, half, casts, nodes)
        if half:
            _halve_attributes(node)
        nodes.append(node)
    replace_nodes(converted, nodes)
    del converted.graph.value_info[:]  # it names the old types
    converted.graph.initializer.extend(constants.values())
    drop_unread(converted)
    onnx.checker.check_model(converted, full_check=True)
    return converted


def _halved(graph: Graph, kept: frozenset[str]) -> list[onnx.NodeProto]:
    """Return the nodes from the first weighted layer to the logits, without those that are kept in fp32."""
    # before the first weighted layer come the bytes and the normalization, which stay in fp32
    below: set[str] = set()
    excluded = kept | _tail(graph)
    halved = []
    for node in graph.nodes:
        if graph.is_weighted(node) or any(name in below for name in node.input):
            below |= set(node.output)
            if node.name not in excluded and _is_float(graph, node.output[0]):
                halved.append(node)
    return halved


def _tail(graph: Graph) -> set[str]:
    """Return the names of the softmax node and of the division by the temperature before it."""
    tail = {graph.nodes[-1].name}
    # no division where the temperature is 1: the optimizer drops it
    before = graph.producer.get(graph.nodes[-1].input[0])
    if before is not None and before.op_type in {"Div", "Mul"} and before.input[1] in graph.constants:
        tail.add(before.name)
    return tail


def _is_float(graph: Graph, name: str) -> bool:
    """Tell whether a tensor is float32, and not a shape in whole numbers."""
    constant = graph.constants.get(name)
    return constant.data_type == TensorProto.FLOAT if constant is not None else name in graph.floats


def _half_constant(graph: Graph, node: onnx.NodeProto, name: str, constants: dict[str, onnx.TensorProto]) -> str:
    if graph.constants[name].data_type != TensorProto.FLOAT or node.op_type in KEEP_FLOAT_CONSTANTS:
        return name
    half = f"{name}_half"
    if half not in constants:
        # the largest float32, which stands for no bound in a Clip, would become infinite
        value = np.clip(np.asarray(graph.array(name), np.float32), -HIGHEST, HIGHEST)
        constants[half] = numpy_helper.from_array(value.astype(np.float16), half)
    return half


def _cast(name: str, half: bool, casts: dict[str, onnx.NodeProto], nodes: list[onnx.NodeProto]) -> str:
    """Return the name of a tensor in the other precision, cast once for all its readers."""
    cast = f"{name}_{'half' if half else 'float'}"
    if cast not in casts:
        to = TensorProto.FLOAT16 if half else TensorProto.FLOAT
        casts[cast] = helper.make_node("Cast", [name], [cast], name=f"Cast_{cast}", to=to)
        nodes.append(casts[cast])
    return cast


def _halve_attributes(node: onnx.NodeProto) -> None:
    for item in node.attribute:
        # a Cast to float32 inside the network, and the value of a Constant or ConstantOfShape
        if node.op_type == "Cast" and item.name == "to" and item.i == TensorProto.FLOAT:
            item.i = TensorProto.FLOAT16
        if item.type == onnx.AttributeProto.TENSOR and item.t.data_type == TensorProto.FLOAT:
            item.t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(item.t).astype(np.float16)))
