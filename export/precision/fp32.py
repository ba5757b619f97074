"""Convert a torch network to ONNX fp32: one graph from bytes to probabilities, the same file for one checkpoint."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from onnxscript import opset18
from torch import nn

from core.bundle.contract import INPUT, Bundle
from core.errors import CheckError
from core.signals import holding_signals
from export.graph.nodes import Graph, attribute, drop_unread, replace_nodes

OPSET = 18
"""The lowest runtime we support is JetPack 6's TensorRT 10.3, whose parser knows opsets 9 to 20; torch writes 18."""
IR_VERSION = 9
"""The version that ONNX 1.14 wrote, which ONNX Runtime reads from 1.15 on."""
PRODUCER = "rearguard"


def to_onnx(network: nn.Module, size_px: int) -> onnx.ModelProto:
    """Return the ONNX graph of a network in eval mode, uint8 (n, S, S, 3) -> float32 (n, classes), with n dynamic.

    Batch normalization is folded into the convolutions, and constants are computed. Raises CheckError when the graph
    cannot be made or is not valid.
    """
    # two rows: torch.export takes a size of 1 for a constant, and n must stay dynamic
    example = torch.zeros((2, size_px, size_px, 3), dtype=torch.uint8)
    dynamic = {"frames_nhwc": {0: torch.export.Dim("n")}}
    try:
        with holding_signals(), _quiet(), torch.inference_mode():
            program = torch.onnx.export(
                network,
                (example,),
                input_names=[INPUT["name"]],
                output_names=[INPUT["output"]],
                dynamic_shapes=dynamic,
                opset_version=OPSET,
                custom_translation_table={torch.ops.aten.adaptive_avg_pool2d.default: _pool},
                dynamo=True,
                optimize=True,
                verbose=False,
            )
        assert program is not None
        model = clean(head_as_convolution(join_normalization(program.model_proto)))
        onnx.checker.check_model(model, full_check=True)
    except (torch.onnx.OnnxExporterError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise CheckError(f"the network has no valid ONNX graph ({str(error).strip().splitlines()[0][:200]})") from error
    return model


def _pool(images: Any, output_size: Any) -> Any:
    """Write global average pooling as the one operator that every runtime quantizes.

    torch's own decomposition is a mean and an as_strided, which becomes a Gather over a Range.
    """
    if [int(length) for length in output_size] != [1, 1]:
        raise NotImplementedError(f"adaptive_avg_pool2d to {list(output_size)}: only (1, 1) has an ONNX operator")
    return opset18.GlobalAveragePool(images)


def join_normalization(model: onnx.ModelProto) -> onnx.ModelProto:
    """Write the first per-channel multiply and add as one BatchNormalization: the same numbers, one pass.

    ONNX Runtime moves the transpose behind the two, where they broadcast over 3 values at a time: 1.28 ms of the
    3.5 ms of an int8 SqueezeNet at 224 px; as one node 0.02 ms.
    """
    graph = Graph(model)
    # in the graph's order: the normalization comes before any layer that multiplies by a constant
    by_constant = (node for node in graph.nodes if node.op_type == "Mul" and node.input[1] in graph.constants)
    multiply = next(by_constant, None)
    if multiply is None:
        return model
    (add, *others) = graph.consumers[multiply.output[0]]
    if others or add.op_type != "Add" or add.input[1] not in graph.constants:
        return model
    scale = graph.array(multiply.input[1]).astype(np.float32).ravel()
    offset = graph.array(add.input[1]).astype(np.float32).ravel()
    inputs = {
        "normalize_scale": scale,
        "normalize_offset": offset,
        "normalize_mean": np.zeros_like(scale),
        "normalize_variance": np.ones_like(scale),
    }
    for name, values in inputs.items():
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    # (x - 0) / sqrt(1 + epsilon) * scale + offset: ONNX's own epsilon, 1e-5, would change the numbers
    joined = helper.make_node("BatchNormalization", [multiply.input[0], *inputs], list(add.output), epsilon=0.0)
    nodes = [joined if node is multiply else node for node in graph.nodes if node is not add]
    replace_nodes(model, nodes)
    return model


def head_as_convolution(model: onnx.ModelProto) -> onnx.ModelProto:
    """Rewrite a matrix product behind global pooling as a 1x1 convolution, which computes the same numbers.

    TensorRT-RTX has no fp32 matrix product on SM75, neither in an fp32 file nor in an int8 one; it has the convolution.
    """
    graph = Graph(model)
    for gemm in graph.weighted:
        flat = graph.producer.get(gemm.input[0])
        if gemm.op_type != "Gemm" or flat is None or flat.op_type not in {"Flatten", "Reshape"}:
            continue
        # only as torch writes a Linear: weights (out, in), and no factor, for which a convolution has no attribute
        factors = [item.f for item in gemm.attribute if item.name in {"alpha", "beta"}]
        if not attribute(gemm, "transB", 0) or any(factor != 1 for factor in factors):
            continue
        pool = graph.producer.get(flat.input[0])
        if pool is None or pool.op_type != "GlobalAveragePool":
            continue
        # another reader of the flat tensor or of the weights would still need their old shape
        weights_name = gemm.input[1]
        if len(graph.consumers[flat.output[0]]) > 1 or len(graph.consumers[weights_name]) > 1:
            continue
        kernel = graph.array(weights_name)[:, :, None, None]
        graph.constants[weights_name].CopyFrom(numpy_helper.from_array(kernel, weights_name))
        logits = gemm.output[0]
        # pool -> flat -> product becomes pool -> convolution -> flat
        inputs = [pool.output[0], *gemm.input[1:]]
        gemm.CopyFrom(helper.make_node("Conv", inputs, [f"{logits}_4d"], kernel_shape=[1, 1]))
        flat.CopyFrom(helper.make_node("Flatten", [f"{logits}_4d"], [logits], axis=1))
        nodes = [node for node in graph.nodes if node is not flat]
        nodes.insert(graph.nodes.index(gemm), flat)
        replace_nodes(model, nodes)
        return model
    return model


def clean(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph without the exporter's traces of this machine (paths, stacks) and without unread constants.

    Nodes are named by their operator and number.
    """
    # one checkpoint must give one file, byte for byte, wherever it is exported
    cleaned = deepcopy(model)
    cleaned.producer_name = PRODUCER
    cleaned.producer_version = ""
    cleaned.doc_string = ""
    cleaned.ir_version = IR_VERSION
    graph = cleaned.graph
    graph.name, graph.doc_string = PRODUCER, ""
    for item in [*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer]:
        item.doc_string = ""
        del item.metadata_props[:]
    del cleaned.metadata_props[:], graph.metadata_props[:], graph.value_info[:]
    drop_unread(cleaned)
    for number, node in enumerate(graph.node):
        node.name = f"{node.op_type}_{number}"
    return cleaned


def stamp(model: onnx.ModelProto, bundle: Bundle, precision: str) -> None:
    """Write the bundle's facts into the graph's metadata, so that a stray model.onnx can be recognized."""
    onnx.helper.set_model_props(
        model,
        {
            "rearguard.arch": bundle.arch,
            "rearguard.classes": ",".join(bundle.classes),
            "rearguard.size_px": str(bundle.geometry.size_px),
            "rearguard.kernel": bundle.geometry.kernel,
            "rearguard.precision": precision,
            "rearguard.contract": bundle.contract_hash,
            "rearguard.commit": str(bundle.provenance.get("commit", "")),
        },
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter, which prints and warns about its own internals."""
    logging.getLogger("torch").setLevel(logging.ERROR)  # torch's logger has a level and a handler of its own
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
