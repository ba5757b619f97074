"""The pack reader: each part that is missing or disagrees is one sentence with the hint."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from core.data.pack import COLUMNS, open_pack
from core.errors import InputError
from core.geometry.preprocess import Geometry

SIZE = 32
ROWS = [
    ("0", "car", "train", "a", "a.jpg", ""),
    ("1", "bus", "calibration", "b", "b,1.jpg", "1 2 30 40"),
    ("2", "car", "val", "c", "c.jpg", ""),
    ("3", "bus", "test", "d", "ü.jpg", ""),
]


@pytest.fixture
def path(tmp_path) -> Path:
    """A pack of four rows, written by hand."""
    folder = tmp_path / "pack"
    folder.mkdir()
    images = np.random.default_rng(0).integers(0, 256, (len(ROWS), SIZE, SIZE, 3), np.uint8)
    np.save(folder / "images.npy", images)
    lines = [",".join(COLUMNS), *(",".join(f'"{cell}"' for cell in row) for row in ROWS)]
    (folder / "rows.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    facts = {
        "schema": 1,
        "classes": ["bus", "car"],
        "background": None,
        "geometry": Geometry(SIZE).as_json(),
        "synthetic": False,
        "fingerprint": "f" * 64,
    }
    (folder / "pack.json").write_text(json.dumps(facts), encoding="utf-8")
    return folder


def test_a_pack_opens_with_every_column(path):
    pack = open_pack(path)
    assert pack.labels_n.tolist() == [1, 0, 1, 0]
    assert pack.sources_n.tolist() == ["a.jpg", "b,1.jpg", "c.jpg", "ü.jpg"]
    assert pack.boxes_n == (None, (1, 2, 30, 40), None, None)
    assert pack.groups_n.tolist() == ["a", "b", "c", "d"]


def test_calibration_rows_are_train_rows_too(path):
    pack = open_pack(path)
    assert pack.rows("train").tolist() == [0, 1]
    assert pack.rows("calibration").tolist() == [1]
    assert pack.rows("val").tolist() == [2]
    assert pack.counts["train"] == {"bus": 1, "car": 1}


def test_images_are_a_map_that_cannot_be_written(path):
    pack = open_pack(path)
    with pytest.raises(ValueError, match="read-only"):
        pack.images_nhwc[0] = 0


def test_images_are_taken_by_number_slice_and_array(path):
    images, all_rows = open_pack(path).images_nhwc, np.load(path / "images.npy")
    assert np.array_equal(images[2], all_rows[2])
    assert np.array_equal(images[1:3], all_rows[1:3])
    assert np.array_equal(images[np.array([3, 0, 3])], all_rows[[3, 0, 3]])
    assert images.shape == all_rows.shape


def edit(path: Path, name: str, change) -> None:
    (path / name).write_bytes(change((path / name).read_bytes()))


def edit_facts(path: Path, **change) -> None:
    facts = json.loads((path / "pack.json").read_text()) | change
    (path / "pack.json").write_text(json.dumps({k: v for k, v in facts.items() if v != "GONE"}))


def save_other(path: Path, shape: tuple[int, ...], dtype: type = np.uint8) -> None:
    np.save(path / "images.npy", np.zeros(shape, dtype))


BROKEN = {
    "no images": (lambda p: (p / "images.npy").unlink(), "images.npy"),
    "truncated images": (lambda p: edit(p, "images.npy", lambda b: b[:-100]), "images.npy"),
    "no header": (lambda p: edit(p, "images.npy", lambda b: b[:50]), "images.npy"),
    "empty images": (lambda p: edit(p, "images.npy", lambda _: b""), "images.npy"),
    "fewer images": (lambda p: save_other(p, (3, SIZE, SIZE, 3)), "images.npy"),
    "floats": (lambda p: save_other(p, (4, SIZE, SIZE, 3), np.float32), "images.npy"),
    "no rows": (lambda p: (p / "rows.csv").unlink(), "rows.csv"),
    "other columns": (lambda p: edit(p, "rows.csv", lambda b: b.replace(b"group", b"gruppe", 1)), "rows.csv"),
    "unknown label": (lambda p: edit(p, "rows.csv", lambda b: b.replace(b'"car"', b'"cat"', 1)), "line 2"),
    "unknown split": (lambda p: edit(p, "rows.csv", lambda b: b.replace(b'"val"', b'"dev"', 1)), "line 4"),
    "a row twice": (lambda p: edit(p, "rows.csv", lambda b: b.replace(b'"2"', b'"1"', 1)), "line 4"),
    "a box of words": (lambda p: edit(p, "rows.csv", lambda b: b.replace(b"1 2 30 40", b"1 2 30 x", 1)), "line 3"),
    "a box of three": (lambda p: edit(p, "rows.csv", lambda b: b.replace(b"1 2 30 40", b"1 2 30", 1)), "line 3"),
    "not text": (lambda p: edit(p, "rows.csv", lambda b: b + b"\xff\xfe"), "rows.csv"),
    "no facts": (lambda p: (p / "pack.json").unlink(), "pack.json"),
    "facts cut off": (lambda p: edit(p, "pack.json", lambda b: b[:40]), "pack.json"),
    "other schema": (lambda p: edit_facts(p, schema=2), "schema"),
    "no classes": (lambda p: edit_facts(p, classes="GONE"), "classes"),
    "classes a number": (lambda p: edit_facts(p, classes=3), "classes"),
    "a class twice": (lambda p: edit_facts(p, classes=["bus", "car", "car"]), "classes"),
    "no background": (lambda p: edit_facts(p, background="GONE"), "background"),
    "other background": (lambda p: edit_facts(p, background="sky"), "background"),
    "other geometry": (lambda p: edit_facts(p, geometry={"size_px": SIZE}), "geometry"),
    "no folder": (lambda p: p.rename(p.with_name("other")), "no such folder"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_pack_is_one_sentence_with_the_hint(path, name):
    spoil, said = BROKEN[name]
    spoil(path)
    with pytest.raises(InputError) as caught:
        open_pack(path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "pack" in str(caught.value)
