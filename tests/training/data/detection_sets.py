"""Write one and the same detection data set in every format that is imported."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from core.errors import InputError
from training.data.importers import read_listing
from training.data.listing import Listing, PackOptions

SIZES = {f"drive{i // 2}_{i}.png": (200, 150) for i in range(12)} | {"empty.png": (160, 120)}
Box = tuple[str, tuple[float, float, float, float]]
NAMES = ("bus", "car", "person")
BOXES: dict[str, list[Box]] = {
    name: [("car", (10.0, 20.0 + i, 70.0, 60.0 + i)), (NAMES[i % 3], (90.5, 31.5, 150.5, 100.5))]
    for i, name in enumerate(SIZES)
    if name != "empty.png"
}
OPTIONS = PackOptions(size_px=32, resplit=True)
OPTIONS_GIVEN = PackOptions(size_px=32)
SHARED = Path(__file__).parents[4] / "shared" / "data"


def write_images(folder: Path, sizes: Mapping[str, tuple[int, int]]) -> None:
    """Write a textured image of each name and (width, height)."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, (name, (width, height)) in enumerate(sizes.items()):
        coarse = np.random.default_rng(i).integers(0, 256, (9, 12, 3), np.uint8)
        cv2.imwrite(str(folder / name), cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))


def write_coco(root: Path, sizes: Mapping[str, tuple[int, int]], boxes: Mapping[str, Sequence[Box]]) -> Path:
    write_images(root / "images", sizes)
    (root / "annotations.json").write_text(json.dumps(coco_body(sizes, boxes)), encoding="utf-8")
    return root


def coco_body(sizes: Mapping[str, tuple[int, int]], boxes: Mapping[str, Sequence[Box]]) -> dict:
    ids = {name: i + 7 for i, name in enumerate(sizes)}
    return {
        "images": [{"id": ids[n], "file_name": n, "width": w, "height": h} for n, (w, h) in sizes.items()],
        "categories": [{"id": i + 1, "name": name} for i, name in enumerate(NAMES)],
        "annotations": [
            {
                "id": len(name) * 1000 + i,
                "image_id": ids[name],
                "category_id": NAMES.index(label) + 1,
                "bbox": [x0, y0, x1 - x0, y1 - y0],
            }
            for name, of_image in boxes.items()
            for i, (label, (x0, y0, x1, y1)) in enumerate(of_image)
        ],
    }


def write_yolo(root: Path, sizes: Mapping[str, tuple[int, int]], boxes: Mapping[str, Sequence[Box]]) -> Path:
    """All images are in train: the tests split anew."""
    write_images(root / "train" / "images", sizes)
    (root / "train" / "labels").mkdir()
    (root / "data.yaml").write_text(f"names: [{', '.join(NAMES)}]\ntrain: ../train/images\n", encoding="utf-8")
    for name, (w, h) in sizes.items():
        lines = [
            f"{NAMES.index(label)} {(x0 + x1) / 2 / w:.6f} {(y0 + y1) / 2 / h:.6f}"
            f" {(x1 - x0) / w:.6f} {(y1 - y0) / h:.6f}"
            for label, (x0, y0, x1, y1) in boxes.get(name, ())
        ]
        (root / "train" / "labels" / name).with_suffix(".txt").write_text("\n".join(lines) + "\n")
    return root


def write_voc(root: Path, sizes: Mapping[str, tuple[int, int]], boxes: Mapping[str, Sequence[Box]]) -> Path:
    write_images(root / "JPEGImages", sizes)
    (root / "Annotations").mkdir()
    for name, (w, h) in sizes.items():
        objects = "".join(
            f"<object><name>{label}</name><bndbox><xmin>{round(x0 + 1)}</xmin><ymin>{round(y0 + 1)}</ymin>"
            f"<xmax>{round(x1)}</xmax><ymax>{round(y1)}</ymax></bndbox></object>"
            for label, (x0, y0, x1, y1) in boxes.get(name, ())
        )
        (root / "Annotations" / name).with_suffix(".xml").write_text(
            f"<annotation><filename>{name}</filename><size><width>{w}</width><height>{h}</height></size>"
            f"{objects}</annotation>"
        )
    return root


def write_kitti(root: Path, sizes: Mapping[str, tuple[int, int]], boxes: Mapping[str, Sequence[Box]]) -> Path:
    write_images(root / "training" / "image_2", sizes)
    (root / "training" / "label_2").mkdir()
    for name in sizes:
        write_kitti_labels(root / "training" / "label_2" / f"{Path(name).stem}.txt", boxes.get(name, ()))
    return root


def write_kitti_labels(file: Path, boxes: Sequence[Box]) -> None:
    lines = [
        f"{label} 0.00 0 -1.57 {x0:.2f} {y0:.2f} {x1:.2f} {y1:.2f} 1.5 1.6 3.7 2.5 1.7 9.0 -1.6"
        for label, (x0, y0, x1, y1) in boxes
    ]
    file.write_text("".join(line + "\n" for line in lines))


WRITERS = {"coco": write_coco, "yolo": write_yolo, "voc": write_voc, "kitti": write_kitti}


def crops(listing: Listing) -> set[tuple[str, str, object]]:
    """Return (file name, class, rectangle) of each labelled crop."""
    return {(Path(s.source).name, s.label, s.box) for s in listing.samples if not s.unmarked}


def refused(root: Path, named: str, options: PackOptions = OPTIONS_GIVEN) -> str:
    """Assert that reading is one sentence that holds `named`, and return it."""
    with pytest.raises(InputError) as caught:
        read_listing(str(root), options)
    said = str(caught.value)
    assert named in said
    assert "\n" not in said
    assert len(said) < 500
    return said


def left_out(root: Path, reason: str, named: str, picture: str = "drive0_0.png") -> None:
    """Assert that what is odd in a picture's annotation is counted and named, that no background is cut from that
    picture, and that all others give their crops."""
    listing = read_listing(str(root), OPTIONS)
    assert listing.skipped[reason] >= 1
    assert named in listing.first_skipped[reason]
    assert "\n" not in listing.first_skipped[reason]
    assert not [s for s in listing.samples if s.unmarked and s.source.endswith(picture)]
    assert {image for image, _, _ in crops(listing)} >= set(BOXES) - {picture}
