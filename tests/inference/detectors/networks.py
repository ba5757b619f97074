"""Networks that answer without a runtime: what a stored export gave, or whatever a test says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from inference.backends import Network, Tensor

EXPORTS = Path(__file__).parent / "exports"


class FakeNetwork(Network):
    """Has the inputs and outputs that it is given, and answers the same to everything."""

    def __init__(self, inputs, outputs: Mapping[str, np.ndarray], metadata=None, shapes=None) -> None:
        self.file = Path("fake.onnx")
        self.inputs = tuple(inputs)
        self.answers = dict(outputs)
        shapes = shapes or {name: value.shape for name, value in outputs.items()}
        self.outputs = tuple(Tensor(name, str(value.dtype), tuple(shapes[name])) for name, value in outputs.items())
        self.metadata = metadata or {}
        self.fed: dict[str, np.ndarray] = {}

    def run(self, feeds):
        self.fed = {name: value.copy() for name, value in feeds.items()}
        return dict(self.answers)

    def close(self) -> None:
        self.answers = {}


def image(height: int | None = 64, width: int | None = 96, dtype: str = "float32") -> Tensor:
    return Tensor("images", dtype, (1, 3, height, width))


def network_of(*outputs: np.ndarray, size_hw=(64, 96), **metadata: str) -> FakeNetwork:
    return FakeNetwork([image(*size_hw)], {f"output{i}": value for i, value in enumerate(outputs)}, metadata)


class Export:
    """One family's stored export: see make_exports.py."""

    def __init__(self, name: str) -> None:
        with np.load(EXPORTS / f"{name}.npz") as stored:
            arrays = dict(stored)
        facts = json.loads(str(arrays["facts"]))
        self.frame, self.fed, self.boxes = arrays["frame"], arrays["fed"], arrays["boxes"]
        self.config, self.step = facts["config"], facts["step"]
        inputs = [Tensor(n, dtype, tuple(shape)) for n, dtype, shape in facts["inputs"]]
        outputs = {n: arrays[f"output_{n}"] for n, _, _ in facts["outputs"]}
        shapes = {n: shape for n, _, shape in facts["outputs"]}
        self.network = FakeNetwork(inputs, outputs, facts["metadata"], shapes)


def export_names() -> list[str]:
    return sorted(path.stem for path in EXPORTS.glob("*.npz"))
