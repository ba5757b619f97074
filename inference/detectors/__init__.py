"""Detector layouts: one file for each form of a detector's outputs, found by its name. A layout makes boxes of them.

Each module has `INPUT`, how its family prepares a frame; `SUPPRESSED`, whether overlapping boxes were removed inside
the graph; `matches(network) -> bool`, whether these are its outputs; `classes(network) -> int | None`, how many classes
they have, where the shapes say so; and `decode(outputs, size_hw, threshold) -> Detections`, those with a score over the
threshold, in pixels of the network's input.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.errors import InputError
from core.geometry.detector_config import stated_size_hw
from core.plugins import load_plugin, load_usable, names_in
from inference.backends import Network, Tensor

PARTS = ("INPUT", "SUPPRESSED", "matches", "classes", "decode")
"""The parts that the module of each layout has."""
Floats = NDArray[np.float32]
Outputs = Mapping[str, NDArray[Any]]
"""A network's outputs by name."""
COCO = ("person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck")
"""The first of COCO's 80 classes; the others are no road users."""
NAMES_OF = {80: COCO, 91: ("background", *COCO)}
"""The names by the number of classes: 91 where they are COCO's own numbers, which begin at 1."""


@dataclass(frozen=True, slots=True)
class Detections:
    """Boxes of one image. boxes_n4: float32 x0, y0, x1, y1 in pixels; scores_n: float32, 0 to 1."""

    boxes_n4: Floats
    scores_n: Floats
    classes_n: NDArray[np.int64]

    def __post_init__(self) -> None:
        n = len(self.scores_n)
        if self.boxes_n4.shape != (n, 4) or self.scores_n.shape != (n,) or self.classes_n.shape != (n,):
            shapes = self.boxes_n4.shape, self.scores_n.shape, self.classes_n.shape
            raise InputError(f"boxes_n4, scores_n and classes_n are {shapes}")

    def __len__(self) -> int:
        return len(self.scores_n)

    def select(self, chosen: Any) -> Detections:
        """Return the rows that an index or a mask chooses."""
        return Detections(self.boxes_n4[chosen], self.scores_n[chosen], self.classes_n[chosen])


def names() -> list[str]:
    """Return the layouts there are, by file name."""
    return names_in(__path__)


def find(name: str) -> ModuleType:
    """Import the layout `name`. Raises InputError naming the layouts there are."""
    if name not in names():
        raise InputError(f"there is no detector layout {name!r}: choose from {', '.join(names())}")
    return load_plugin(__name__, name, PARTS)


def recognize(network: Network) -> str:
    """Return the one layout that a network's outputs fit. Raises InputError showing what was found."""
    # all are tried: where two fit, a guess would give boxes that are wrong and look right
    fitting = [name for name, layout in load_usable(__name__, names(), PARTS).items() if _fits(layout, network)]
    if len(fitting) == 1:
        return fitting[0]
    problem = f"fit the layouts {' and '.join(fitting)}" if fitting else "are those of no known detector"
    raise InputError(
        f"the outputs of {network.file} {problem} ({describe(network)}): "
        f"state one as the detector's layout: {', '.join(names())}"
    )


def read_outputs(
    network: Network, layout: ModuleType, outputs: Outputs, size_hw: tuple[int, int], threshold: float
) -> Detections:
    """Return what a layout decodes. Raises InputError with the outputs' shapes where the layout cannot read them."""
    try:
        found: Detections = layout.decode(outputs, size_hw, threshold)
        return found
    except Exception as error:  # whatever numpy raises where shapes do not fit each other
        shapes = ", ".join(f"{name} {array.dtype} {array.shape}" for name, array in outputs.items())
        name = layout.__name__.rpartition(".")[2]
        raise InputError(
            f"the outputs of {network.file} cannot be read in the layout {name!r} ({shapes}): "
            "export it with outputs that fit each other, or state another layout"
        ) from error


def describe(network: Network) -> str:
    """Return a network's inputs, outputs and metadata in one line."""
    told = "; ".join(f"{key}: {value[:60]}" for key, value in sorted(network.metadata.items())) or "none"
    sides = [", ".join(str(tensor) for tensor in side) for side in (network.inputs, network.outputs)]
    return f"inputs {sides[0]}; outputs {sides[1]}; metadata {told}"


def image_input(network: Network) -> Tensor:
    """Return the input that takes the picture: the first of three or four axes. Raises InputError without one."""
    for tensor in network.inputs:
        if len(tensor.shape) in (3, 4):
            return tensor
    raise InputError(f"{network.file} has no input for a picture ({describe(network)})")


def channels_last(tensor: Tensor) -> bool:
    """Return whether the channels of an image input come last."""
    return tensor.shape[-1] == 3 and tensor.shape[-3] != 3


def size_of(network: Network) -> tuple[int, int] | None:
    """Return the height and width of the image input; None where neither its shape nor the metadata says them."""
    return fixed_size_of(network) or stated_size_hw(network.metadata)


def fixed_size_of(network: Network) -> tuple[int, int] | None:
    """Return the height and width that the image input has; None where it takes pictures of any size."""
    tensor = image_input(network)
    height, width = tensor.shape[-3:-1] if channels_last(tensor) else tensor.shape[-2:]
    return (height, width) if height and width else None


def _fits(layout: ModuleType, network: Network) -> bool:
    """Return whether outputs and metadata, where there is any, are those of a layout."""
    if network.metadata.get("task", "detect") != "detect" or not layout.matches(network):
        return False
    # the shapes of two layouts may agree by chance; the number of names tells them apart
    told, classes = _told_names(network), layout.classes(network)
    return not told or classes in (None, len(told))


def class_names(network: Network, layout: str) -> tuple[str, ...]:
    """Return the names of the classes: as the metadata has them, COCO's first for 80 or 91 classes, else none."""
    return _told_names(network) or NAMES_OF.get(find(layout).classes(network), ())


def _told_names(network: Network) -> tuple[str, ...]:
    """Return Ultralytics' `names`, such as {0: 'person', 1: 'car'}; empty without."""
    # a Python literal, from a file of unknown origin: deep nesting ends in MemoryError or RecursionError
    try:
        told = ast.literal_eval(network.metadata.get("names", "{}"))
        return tuple(str(told[i]) for i in range(len(told)))
    except (ValueError, SyntaxError, KeyError, TypeError, MemoryError, RecursionError):
        return ()


def count_cells(size_hw: tuple[int, int], strides: tuple[int, ...] = (8, 16, 32)) -> int:
    """Return how many cells the grids of these strides have together."""
    return sum((size_hw[0] // stride) * (size_hw[1] // stride) for stride in strides)


def to_corners(centered_n4: Floats) -> Floats:
    """Return x0, y0, x1, y1 of boxes that are given by center, width and height."""
    half = centered_n4[:, 2:] / 2
    return np.concatenate([centered_n4[:, :2] - half, centered_n4[:, :2] + half], 1)
