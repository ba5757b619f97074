"""A small pack at another input size, for latency measurements, which do not depend on what the rows show."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from core.data.pack import Pack
from core.geometry.preprocess import Geometry

ROWS = {"calibration": 60, "val": 60, "test": 20}
"""The most rows of each split that `resize_pack` takes; a row takes 150 KB at 224 px."""


def resize_pack(pack: Pack, geometry: Geometry) -> Pack:
    """Return the pack itself when it has this geometry, else a few rows of each split, stretched to the size."""
    if geometry == pack.geometry:
        return pack
    size = (geometry.size_px, geometry.size_px)
    # spread over each split, so that several classes are among them: calibration wants varied activations
    spread = []
    for split, most in ROWS.items():
        rows = pack.rows(split)
        few = np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int)
        spread.append(rows[few])
    kept = np.sort(np.concatenate(spread))  # in the order of the file, as a pack's rows are
    images = [cv2.resize(np.asarray(pack.images_nhwc[row]), size, interpolation=cv2.INTER_LINEAR) for row in kept]
    return replace(
        pack,
        geometry=geometry,
        images_nhwc=np.stack(images),
        labels_n=pack.labels_n[kept],
        splits_n=pack.splits_n[kept],
        groups_n=pack.groups_n[kept],
        sources_n=pack.sources_n[kept],
        boxes_n=tuple(pack.boxes_n[row] for row in kept),
    )
