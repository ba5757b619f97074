"""Background that was drawn: it shows something, and it leaks nothing."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from core.errors import InputError
from tests.training.data.detection_sets import SHARED, write_yolo
from training.data.listing import PackOptions
from training.data.pack_writer import write_pack


def write_padded(root: Path) -> Path:
    """Write a set split in three whose pictures are a third padding and more, as letterboxing leaves it."""
    sizes = {f"{i}.png": (120, 120) for i in range(24)}
    write_yolo(root, sizes, {name: [("car" if i % 2 else "bus", (0, 0, 40, 40))] for i, name in enumerate(sizes)})
    for name in sizes:
        file = root / "train" / "images" / name
        image = cv2.imread(str(file))
        image[:, 75:] = 0
        cv2.imwrite(str(file), image)
    return root


def test_padding_is_no_background_and_is_counted_by_name(tmp_path):
    root = write_padded(tmp_path / "set")
    made = write_pack(str(root), tmp_path / "pack", PackOptions(size_px=32, margin=0.0, resplit=True, background=24))
    rows = np.flatnonzero(made.labels_n == made.classes.index("background"))
    assert all(made.images_nhwc[row].std() > 0 for row in rows)
    rejected = [file for file in made.metadata["rejected"] if file["reason"] == "background of one color"]
    assert len(rejected) + len(rows) == 24
    assert rejected


def test_two_drawn_rows_of_one_look_are_no_leak(tmp_path):
    """A wall that is the same in every picture: background cut from it is the same pixels in every split."""
    sizes = {f"{i}.png": (160, 80) for i in range(12)}
    root = write_yolo(tmp_path / "set", sizes, {})
    for i, name in enumerate(sizes):
        image = np.repeat(np.linspace(0, 255, 80, dtype=np.uint8), 160 * 3).reshape(80, 160, 3)
        image[:, :40] = np.random.default_rng(i).integers(0, 256, (80, 40, 3), np.uint8)
        cv2.imwrite(str(root / "train" / "images" / name), image)
        (root / "train" / "labels" / f"{i}.txt").write_text(f"{i % 2} 0.125 0.5 0.25 1\n")
    (root / "data.yaml").write_text("names: [bus, car]\ntrain: train.txt\nval: val.txt\ntest: test.txt\n")
    for split, numbers in (("train", range(6)), ("val", range(6, 9)), ("test", range(9, 12))):
        (root / f"{split}.txt").write_text("".join(f"./train/images/{i}.png\n" for i in numbers))
    made = write_pack(str(root), tmp_path / "pack", PackOptions(size_px=32, margin=0.0, background=12))
    assert made.counts["test"]["background"] > 0
    assert made.metadata["health"]["exact_duplicates"] > 0


@pytest.mark.parametrize("size_px", [32, 64])
def test_the_published_set_is_packed(tmp_path, size_px):
    if not (SHARED / "detection_yolo").is_dir():
        pytest.skip("../shared/data is not there")
    made = write_pack(str(SHARED / "detection_yolo"), tmp_path / "pack", PackOptions(size_px=size_px))
    assert made.counts["train"]["background"] > 0
    assert {file["reason"] for file in made.metadata["rejected"]} <= {"background of one color"}


def test_a_set_of_one_class_leaves_no_pack_behind(tmp_path):
    root = write_yolo(tmp_path / "set", {f"{i}.png": (80, 80) for i in range(9)}, {})
    for i in range(9):
        (root / "train" / "labels" / f"{i}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    with pytest.raises(InputError, match="only the class bus"):
        write_pack(str(root), tmp_path / "pack", PackOptions(size_px=32, resplit=True, background=0))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["set"]
