"""Read a pack: a data set decoded once for one input size. `training/pack.py` writes it."""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.errors import InputError
from inference.files import canonical_json, read_json
from inference.preprocess import Bytes, Geometry

SCHEMA = 1
SPLITS = ("train", "val", "test", "calibration")
MEND = "pack the source again with `python -m training pack`"
BOX = re.compile(r"(\d+ \d+ \d+ \d+)?", re.ASCII)
COLUMNS = ("row", "label", "split", "group", "source", "box")


@dataclass(frozen=True)
class Pack:
    """An open pack. `images_nhwc` is a read-only memory map: uint8 (N, S, S, 3) RGB.

    Calibration rows are a slice of train: they are trained on, and `rows("train")` holds them too.
    """

    path: Path
    classes: tuple[str, ...]
    background: str | None
    geometry: Geometry
    synthetic: bool
    fingerprint: str
    images_nhwc: Bytes
    labels_n: NDArray[np.int64]
    splits_n: NDArray[np.str_]
    groups_n: NDArray[np.str_]
    sources_n: NDArray[np.str_]
    boxes_n: tuple[tuple[int, int, int, int] | None, ...]
    facts: dict[str, Any]

    def rows(self, split: str) -> NDArray[np.int64]:
        """Return the row numbers of a split, ascending."""
        wanted = ("train", "calibration") if split == "train" else (split,)
        return np.flatnonzero(np.isin(self.splits_n, wanted))

    @cached_property
    def counts(self) -> dict[str, dict[str, int]]:
        """Return {split: {class: rows}}; calibration rows count in train too."""
        return {
            split: {name: int((self.labels_n[self.rows(split)] == i).sum()) for i, name in enumerate(self.classes)}
            for split in SPLITS
        }


def fingerprint(
    classes: tuple[str, ...], background: str | None, geometry: Geometry, rows: Iterable[tuple[int, str, bytes]]
) -> str:
    """Return the sha256 of what a pack teaches: classes, background, geometry, and label, split, pixels of each row.

    rows: (label, split, sha256 of the row's pixels) in row order. No path and no time is in it.
    """
    digest = hashlib.sha256(canonical_json([SCHEMA, list(classes), background, geometry.as_json()]))
    for label, split, pixels in rows:
        digest.update(f"{label} {split} ".encode() + pixels)
    return digest.hexdigest()


def open_pack(path: Path) -> Pack:
    """Open a pack folder. Raises InputError naming the file and the mend when any part is missing or disagrees."""
    if not path.is_dir():
        raise InputError(f"{path} is not a pack: there is no such folder; {MEND}")
    facts = _read_facts(path / "pack.json")
    geometry, classes = Geometry.from_json(facts["geometry"]), tuple(facts["classes"])
    rows = _read_rows(path / "rows.csv", classes)
    index = {name: i for i, name in enumerate(classes)}
    return Pack(
        path=path,
        classes=classes,
        background=facts["background"],
        geometry=geometry,
        synthetic=facts["synthetic"],
        fingerprint=facts["fingerprint"],
        images_nhwc=_open_images(path / "images.npy", (len(rows), geometry.size_px, geometry.size_px, 3)),
        labels_n=np.array([index[row["label"]] for row in rows], np.int64),
        splits_n=np.array([row["split"] for row in rows]),
        groups_n=np.array([row["group"] for row in rows]),
        sources_n=np.array([row["source"] for row in rows]),
        boxes_n=tuple(_parse_box(row["box"]) for row in rows),
        facts=facts,
    )


def _read_facts(file: Path) -> dict[str, Any]:
    """Read pack.json and check the keys that the reader uses."""
    facts = read_json(file, MEND)
    if not isinstance(facts, dict) or facts.get("schema") != SCHEMA:
        raise InputError(f"{file} is not of pack schema {SCHEMA}; {MEND}")
    classes, background = facts.get("classes"), facts.get("background")
    if not isinstance(classes, list) or len(classes) < 2 or len({*map(str, classes)}) < len(classes):
        raise InputError(f"{file}: classes must be a list of at least two different names; {MEND}")
    checks = {
        "classes": all(isinstance(name, str) for name in classes),
        "background": background is None or background in classes,
        "synthetic": isinstance(facts.get("synthetic"), bool),
        "fingerprint": isinstance(facts.get("fingerprint"), str),
    }
    if wrong := [name for name, fine in checks.items() if not fine]:
        raise InputError(f"{file}: {wrong[0]} is missing or not what a pack has there; {MEND}")
    try:
        Geometry.from_json(facts.get("geometry"))
    except InputError as error:
        raise InputError(f"{file}: {error}; {MEND}") from None
    return facts


def _read_rows(path: Path, classes: tuple[str, ...]) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream)
            if tuple(reader.fieldnames or ()) != COLUMNS:
                raise InputError(f"{path} has the columns {reader.fieldnames}, expected {','.join(COLUMNS)}; {MEND}")
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read ({error}); {MEND}") from None
    known = set(classes)
    for number, row in enumerate(rows):
        whole = None not in row and None not in row.values() and BOX.fullmatch(row["box"])
        if not whole or row["row"] != str(number) or row["split"] not in SPLITS or row["label"] not in known:
            raise InputError(f"{path}, line {number + 2}, is not a row of this pack; {MEND}")
    return rows


def _open_images(path: Path, shape: tuple[int, ...]) -> Bytes:
    try:
        images = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} cannot be opened ({str(error).splitlines()[0]}); {MEND}") from None
    if images.dtype != np.uint8 or images.shape != shape:
        raise InputError(f"{path} holds {images.dtype} {images.shape}, its rows need uint8 {shape}; {MEND}")
    opened: Bytes = images
    return opened


def _parse_box(text: str) -> tuple[int, int, int, int] | None:
    if not text:
        return None
    x0, y0, x1, y1 = (int(part) for part in text.split(" "))
    return x0, y0, x1, y1
