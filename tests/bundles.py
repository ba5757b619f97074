"""A real bundle in a few kilobytes, made without torch: for the tests of the floor and of the benchmarks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from inference.contract import Bundle, onnx_name
from inference.preprocess import Geometry

CLASSES = ("car", "truck", "clear")


def tiny_graph(classes: int, scale: float = 0.05) -> onnx.ModelProto:
    """Return frames uint8 (n,S,S,3) -> probs float32 (n,classes): the mean colour through one matrix and a softmax."""
    weights = np.linspace(-1, 1, 3 * classes, dtype=np.float32).reshape(3, classes) * scale
    nodes = [
        helper.make_node("Cast", ["frames"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats", "axes"], ["means"], keepdims=0),
        helper.make_node("MatMul", ["means", "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probs"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, ["n", "s", "s", 3])],
        [helper.make_tensor_value_info("probs", TensorProto.FLOAT, ["n", classes])],
        [
            numpy_helper.from_array(weights, "weights"),
            numpy_helper.from_array(np.array([1, 2], np.int64), "axes"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def make_bundle(
    path: Path,
    *,
    classes: tuple[str, ...] = CLASSES,
    background: str | None = "clear",
    size_px: int = 32,
    synthetic: bool = True,
    precisions: tuple[str, ...] = ("fp32", "int8"),
) -> Bundle:
    """Write a bundle whose ONNX files really run and whose hashes hold. It has no golden.npz."""
    path.mkdir(parents=True)
    names = [onnx_name(p) for p in precisions] + [onnx_name(p, ort_form=True) for p in precisions if p == "int8"]
    for name in names:
        onnx.save(tiny_graph(len(classes)), str(path / name))
    bundle = Bundle(
        path=path,
        arch="tiny",
        synthetic=synthetic,
        selectable=True,
        classes=classes,
        background=background,
        geometry=Geometry(size_px),
        temperature=1.0,
        abstain_threshold=0.0,
        provenance={"pack": {"path": "", "fingerprint": ""}},
        files={},
        gates={p: {"passed": True, "checks": []} for p in precisions},
    ).with_files(names)
    bundle.save()
    return bundle
