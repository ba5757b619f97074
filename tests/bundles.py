"""A real bundle in a few kilobytes, written without torch: for the tests of core, inference and benchmarks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from core.bundle.contract import Bundle, onnx_name
from core.bundle.golden_file import NAME, Golden, expected_bytes
from core.geometry.preprocess import Geometry

CLASSES = ("car", "truck", "clear")


def tiny_weights(classes: int, scale: float = 0.05) -> np.ndarray:
    return np.linspace(-1, 1, 3 * classes, dtype=np.float32).reshape(3, classes) * np.float32(scale)


def tiny_graph(classes: int, scale: float = 0.05) -> onnx.ModelProto:
    """Return a graph of frames, uint8 (n,S,S,3), to probs, float32 (n,classes): mean color, one matrix, softmax."""
    weights = tiny_weights(classes, scale)
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


def tiny_golden(geometry: Geometry, classes: int, precisions: tuple[str, ...]) -> Golden:
    """Return two noise frames of different sizes with five regions, and the answers of `tiny_graph`, by numpy."""
    random = np.random.default_rng(0)
    frames = tuple(random.integers(0, 256, (h, w, 3), np.uint8) for h, w in ((60, 80), (48, 100)))
    rects_r4 = np.array([[0, 0, 80, 60], [5, 7, 45, 51], [30, 0, 80, 33], [0, 0, 100, 48], [61, 9, 99, 40]], np.int32)
    frame_of_r = np.array([0, 0, 0, 1, 1], np.int32)
    inputs_nhwc = expected_bytes(frames, rects_r4, frame_of_r, geometry)
    logits = inputs_nhwc.mean((1, 2), dtype=np.float64) @ tiny_weights(classes).astype(np.float64)
    exps = np.exp(logits - logits.max(1, keepdims=True))
    probs = (exps / exps.sum(1, keepdims=True)).astype(np.float32)
    return Golden(frames, rects_r4, frame_of_r, inputs_nhwc, dict.fromkeys(precisions, probs))


def make_bundle(
    path: Path,
    *,
    classes: tuple[str, ...] = CLASSES,
    background: str | None = "clear",
    size_px: int = 32,
    synthetic: bool = True,
    precisions: tuple[str, ...] = ("fp32", "int8"),
) -> Bundle:
    """Write a bundle whose ONNX files run, whose golden frames pass and whose hashes match."""
    path.mkdir(parents=True)
    names = [onnx_name(p) for p in precisions] + [onnx_name(p, unsigned=True) for p in precisions if p == "int8"]
    for name in names:
        onnx.save(tiny_graph(len(classes)), str(path / name))
    tiny_golden(Geometry(size_px), len(classes), precisions).save(path / NAME)
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
    ).with_files([*names, NAME])
    bundle.save()
    return bundle
