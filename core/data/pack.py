"""Read a pack: a data set decoded once for one input size. `training/data/pack_writer.py` writes it."""

from __future__ import annotations

import csv
import hashlib
import mmap
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from core.errors import InputError
from core.files import canonical_json, read_object
from core.geometry.frame import Bytes
from core.geometry.preprocess import Geometry

SCHEMA = 1
SPLITS = ("train", "val", "test", "calibration")
HINT = "pack the source again with `python -m training pack`"
BOX = re.compile(r"(\d+ \d+ \d+ \d+)?", re.ASCII)
COLUMNS = ("row", "label", "split", "group", "source", "box")


@dataclass(frozen=True)
class Pack:
    """An open pack. `images_nhwc` is a read-only memory map, or `Shards` of them: uint8 (N, S, S, 3) RGB.

    Calibration rows are a slice of train, and are trained on too.
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
    metadata: dict[str, Any]

    def rows(self, split: str) -> NDArray[np.int64]:
        """Return the row numbers of a split, ascending. "train" includes the calibration rows."""
        wanted = ("train", "calibration") if split == "train" else (split,)
        return np.flatnonzero(np.isin(self.splits_n, wanted))

    @cached_property
    def counts(self) -> dict[str, dict[str, int]]:
        """Return {split: {class: rows}}; calibration rows count in train too."""
        found = {}
        for split in SPLITS:
            labels_n = self.labels_n[self.rows(split)]
            found[split] = {name: int((labels_n == i).sum()) for i, name in enumerate(self.classes)}
        return found


@dataclass(frozen=True)
class Shards:
    """Memory maps that are indexed as one array: by a row, a slice, or an array of rows (which gives a copy)."""

    parts: tuple[Bytes, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of all parts as one array."""
        return (sum(map(len, self.parts)), *self.parts[0].shape[1:])

    @property
    def dtype(self) -> np.dtype[np.uint8]:
        """The dtype of all parts."""
        return self.parts[0].dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Bytes:
        each = len(self.parts[0])  # all parts but the last have this many rows
        if isinstance(key, (int, np.integer)):
            row = int(key) + len(self) * (key < 0)  # a negative key counts from the end
            if not 0 <= row < len(self):
                raise IndexError(f"row {key} of {len(self)}")
            image: Bytes = self.parts[row // each][row % each]
            return image
        rows = np.arange(len(self))[key]
        out = np.empty((len(rows), *self.shape[1:]), np.uint8)
        part_of = rows // each
        reads = []
        for number in np.unique(part_of).tolist():
            places = np.flatnonzero(part_of == number)
            reads.append((self.parts[number], places, rows[places] - number * each))
        for part, _, rows_inside in reads:  # ask for all parts first, so that the disk is busy while rows are copied
            _prefetch(part, rows_inside)
        for part, places, rows_inside in reads:
            out[places] = part[rows_inside]
        return out


def _prefetch(images: Bytes, rows: NDArray[np.int64]) -> None:
    """Ask the kernel to read rows of a map ahead, so that the disk reads all of them while the first are copied."""
    if isinstance(images, np.memmap) and isinstance(images.base, mmap.mmap):
        row_bytes = images.strides[0]
        for row in np.sort(rows).tolist():
            start = int(images.offset) + row * row_bytes
            # madvise takes whole pages
            aligned = start - start % mmap.PAGESIZE
            images.base.madvise(mmap.MADV_WILLNEED, aligned, start + row_bytes - aligned)


def _disable_readahead(images: Bytes) -> None:
    """Stop the kernel's own read-ahead: for rows in random order it would read 40 times as much."""
    if isinstance(images, np.memmap) and isinstance(images.base, mmap.mmap):
        images.base.madvise(mmap.MADV_RANDOM)


def fingerprint(
    classes: tuple[str, ...], background: str | None, geometry: Geometry, rows: Iterable[tuple[int, str, bytes]]
) -> str:
    """Return the sha256 of a pack's content: classes, background, geometry, and label, split and pixels of each row.

    rows: (label, split, sha256 of the row's pixels) in row order. Paths and times have no part in it.
    """
    # the pixels come as hashes, so that a pack of any size needs no second pass over its images
    digest = hashlib.sha256(canonical_json([SCHEMA, list(classes), background, geometry.as_json()]))
    for label, split, pixels in rows:
        digest.update(f"{label} {split} ".encode() + pixels)
    return digest.hexdigest()


def open_pack(path: Path) -> Pack:
    """Open a pack folder. Raises InputError naming the file and the hint when any part is missing or disagrees."""
    if not path.is_dir():
        raise InputError(f"{path} is not a pack: there is no such folder; {HINT}")
    metadata = _read_metadata(path / "pack.json")
    geometry = Geometry.from_json(metadata["geometry"])
    classes = tuple(metadata["classes"])
    rows = _read_rows(path / "rows.csv", classes)
    index = {name: i for i, name in enumerate(classes)}
    return Pack(
        path=path,
        classes=classes,
        background=metadata["background"],
        geometry=geometry,
        synthetic=metadata["synthetic"],
        fingerprint=metadata["fingerprint"],
        images_nhwc=open_images(path, len(rows), geometry.size_px, metadata.get("shard_rows")),
        labels_n=np.array([index[row["label"]] for row in rows], np.int64),
        splits_n=np.array([row["split"] for row in rows]),
        groups_n=np.array([row["group"] for row in rows]),
        sources_n=np.array([row["source"] for row in rows]),
        boxes_n=tuple(_parse_box(row["box"]) for row in rows),
        metadata=metadata,
    )


def _read_metadata(file: Path) -> dict[str, Any]:
    """Read pack.json and check the keys that the reader uses."""
    metadata = read_object(file, HINT, SCHEMA)
    classes = metadata.get("classes")
    background = metadata.get("background")
    if not isinstance(classes, list) or len(classes) < 2 or len({*map(str, classes)}) < len(classes):
        raise InputError(f"{file}: classes must be a list of at least two different names; {HINT}")
    checks = {
        "classes": all(isinstance(name, str) for name in classes),
        "background": "background" in metadata and (background is None or background in classes),
        "synthetic": isinstance(metadata.get("synthetic"), bool),
        "fingerprint": isinstance(metadata.get("fingerprint"), str),
        "shard_rows": _is_shard_rows(metadata.get("shard_rows")),
    }
    if wrong := [name for name, fine in checks.items() if not fine]:
        raise InputError(f"{file}: {wrong[0]} is missing or not what a pack has there; {HINT}")
    try:
        Geometry.from_json(metadata.get("geometry"))
    except InputError as error:
        raise InputError(f"{file}: {error}; {HINT}") from None
    return metadata


def _is_shard_rows(value: Any) -> bool:
    return value is None or (isinstance(value, int) and not isinstance(value, bool) and value > 0)


def _read_rows(path: Path, classes: tuple[str, ...]) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream)
            if tuple(reader.fieldnames or ()) != COLUMNS:
                raise InputError(f"{path} has the columns {reader.fieldnames}, expected {','.join(COLUMNS)}; {HINT}")
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read ({error}); {HINT}") from None
    known = set(classes)
    for number, row in enumerate(rows):
        # csv gives the key None to columns too many, and the value None to columns too few
        whole = None not in row and None not in row.values() and BOX.fullmatch(row["box"])
        # the number ties a line to its image: a file that was sorted or filtered by hand is refused
        if not whole or row["row"] != str(number) or row["split"] not in SPLITS or row["label"] not in known:
            raise InputError(f"{path}, line {number + 2}, is not a row of this pack; {HINT}")
    return rows


def shard_name(number: int) -> str:
    """Return the file name of a shard, where a pack has more than one."""
    return f"images.{number:03d}.npy"


def open_images(folder: Path, rows: int, size_px: int, shard_rows: int | None) -> Bytes:
    """Map images.npy, or the shards of `shard_rows` rows each, the last one excepted. Raises InputError."""
    if shard_rows is None:
        return _open_file(folder / "images.npy", (rows, size_px, size_px, 3))
    lengths = [min(shard_rows, rows - start) for start in range(0, rows, shard_rows)]
    parts = []
    for number, length in enumerate(lengths):
        parts.append(_open_file(folder / shard_name(number), (length, size_px, size_px, 3)))
    for part in parts:
        _disable_readahead(part)
    return cast(Bytes, Shards(tuple(parts)))  # no array, but it has the operations that a pack's readers use


def _open_file(path: Path, shape: tuple[int, ...]) -> Bytes:
    try:
        # mapped: a pack may be larger than the memory, and every process shares the pages that were read
        images = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} cannot be opened ({str(error).splitlines()[0]}); {HINT}") from None
    # a pack whose writing was cut off, or whose rows.csv is another one's
    if images.dtype != np.uint8 or images.shape != shape:
        raise InputError(f"{path} holds {images.dtype} {images.shape}, its rows need uint8 {shape}; {HINT}")
    opened: Bytes = images
    return opened


def _parse_box(text: str) -> tuple[int, int, int, int] | None:
    if not text:
        return None
    x0, y0, x1, y1 = (int(part) for part in text.split(" "))
    return x0, y0, x1, y1
