"""An index over an ONNX graph: the producer and the readers of each tensor, and the constants."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from functools import cached_property

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

WEIGHTED = ("Conv", "Gemm", "MatMul")
"""The operators that gain most by int8."""
RECTIFIERS = ("Relu", "Clip")
"""Operators that every runtime fuses into the layer before, if nothing stands between."""


class Graph:
    """A read-only view of `model.graph`. Make a new one after the graph has changed."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.nodes = list(model.graph.node)
        self.producer = {name: node for node in self.nodes for name in node.output}
        self.constants = {item.name: item for item in model.graph.initializer}
        self.consumers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in self.nodes:
            for name in node.input:
                self.consumers[name].append(node)

    def array(self, name: str) -> NDArray[np.generic]:
        """Return a constant's value. Raises KeyError when `name` is not a constant."""
        return numpy_helper.to_array(self.constants[name])

    def activations(self, node: onnx.NodeProto) -> list[str]:
        """Return the inputs of a node that are not constants."""
        return [name for name in node.input if name and name not in self.constants]

    def is_weighted(self, node: onnx.NodeProto) -> bool:
        """Say whether a node is a convolution or a matrix product with constant weights."""
        return node.op_type in WEIGHTED and len(node.input) > 1 and node.input[1] in self.constants

    @cached_property
    def weighted(self) -> list[onnx.NodeProto]:
        """The convolutions and matrix products, in order."""
        return [node for node in self.nodes if self.is_weighted(node)]

    @cached_property
    def floats(self) -> frozenset[str]:
        """The float32 tensors that are not constants. Others exist: a transformer computes shapes in whole numbers."""
        # a graph need not hold the types of its inner tensors, and `clean` removes them: they are inferred
        inferred = onnx.shape_inference.infer_shapes(self.model).graph
        known = [*inferred.value_info, *inferred.input, *inferred.output]
        return frozenset(item.name for item in known if item.type.tensor_type.elem_type == TensorProto.FLOAT)

    def upstream_of(self, nodes: Iterable[onnx.NodeProto]) -> set[str]:
        """Return every tensor that one of `nodes` depends on, including their own inputs."""
        seen: set[str] = set()
        stack = [name for node in nodes for name in self.activations(node)]
        while stack:
            name = stack.pop()
            if name in seen:
                continue
            seen.add(name)
            if name in self.producer:
                stack += self.activations(self.producer[name])
        return seen

    def clip_bounds(self, node: onnx.NodeProto) -> tuple[float, float]:
        """Return the lowest and highest value a Relu or Clip lets through."""
        if node.op_type == "Relu":
            return 0.0, float("inf")
        # since opset 11 the bounds of a Clip are inputs; either is optional, an inner one left out is an empty name
        given = [*node.input, "", ""]
        low = float(self.array(given[1])) if given[1] else -float("inf")
        high = float(self.array(given[2])) if given[2] else float("inf")
        return low, high


def replace_nodes(model: onnx.ModelProto, nodes: Iterable[onnx.NodeProto]) -> None:
    """Give a model these nodes, some of which may be its own."""
    # copied first: clearing the list below would also clear those of its own nodes that are to stay
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)


def drop_unread(model: onnx.ModelProto) -> None:
    """Remove the constants that no node reads; ONNX Runtime would warn about each."""
    read = {name for node in model.graph.node for name in node.input}
    kept = [item for item in model.graph.initializer if item.name in read]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    """Return a whole-number attribute of a node."""
    for item in node.attribute:
        if item.name == name:
            return int(item.i)
    return default


def output_axis(node: onnx.NodeProto) -> int:
    """Return the axis of a layer's weights that counts its output channels."""
    # a Conv holds (out, in / groups, height, width), a Gemm with transB (out, in), a MatMul (in, out)
    return 0 if node.op_type == "Conv" or attribute(node, "transB", 0) else 1


def input_axis(node: onnx.NodeProto) -> int:
    """Return the axis of a layer's weights that counts its input channels; in a Conv, those of one group."""
    return 1 - output_axis(node)


def per_channel(values_c: NDArray[np.float32], axis: int, ndim: int) -> NDArray[np.float32]:
    """Return one value per channel in the shape that broadcasts along `axis` of an array of `ndim` axes."""
    return np.expand_dims(values_c, [other for other in range(ndim) if other != axis])
