"""A pack with labeled frames."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.bundles import CLASSES
from tests.training.data.detection_sets import write_kitti
from training.data.listing import PackOptions
from training.data.pack_writer import write_pack


@pytest.fixture(scope="package")
def packed(tmp_path_factory) -> Path:
    """Frames with a red, a green or no rectangle on blue: the tiny bundle tells the colors apart."""
    root = tmp_path_factory.mktemp("frames")
    sizes = {f"{i}.png": (160, 80) for i in range(30)}
    names = CLASSES[:2]
    boxes = {name: [(names[i % 2], (10, 10, 70, 70))] for i, name in enumerate(sizes) if i % 3}
    write_kitti(root / "set", sizes, boxes)
    for i, name in enumerate(sizes):
        noise = np.random.default_rng(i).integers(0, 60, (80, 160, 3), np.uint8)
        frame = noise + np.array([190, 0, 0], np.uint8)
        if i % 3:
            frame[10:70, 10:70] = noise[10:70, 10:70] + np.array([[0, 0, 190], [0, 190, 0]], np.uint8)[i % 2]
        cv2.imwrite(str(root / "set" / "training" / "image_2" / name), frame)
    return write_pack(str(root / "set"), root / "pack", PackOptions(size_px=32, background_class="clear")).path
