"""COCO JSON: one file, or a folder with one file a split; images in any folder below (UVH-26 numbers them)."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from inference.errors import InputError
from inference.images import IMAGE_SUFFIXES, SPLIT_NAMES
from training.detections import Box, Picture, list_crops
from training.importers import Listing, Options
from training.importers.folder import group_finder

PEEK_BYTES = 1 << 16
DEPTH = 3
Json = dict[str, Any]


def matches(source: str) -> bool:
    """Say whether the source is a COCO file, or a folder that holds one."""
    path = Path(source)
    return path.suffix == ".json" if path.is_file() else bool(_annotation_files(path))


def read(source: str, options: Options) -> Listing:
    """List the boxes of a COCO data set."""
    path = Path(source)
    files = [path] if path.is_file() else _annotation_files(path)
    if not files:
        raise InputError(f"{source} holds no COCO JSON: give the file itself")
    splits = dict.fromkeys(files) if len(files) == 1 else _splits_of(files)
    root = path.parent if path.is_file() else path
    names: dict[str, None] = {}
    pictures = [picture for file in files for picture in _pictures(file, root, splits[file], names)]
    return list_crops("coco", str(root.resolve()), pictures, names, options, group_finder(root, options))


def _annotation_files(root: Path) -> list[Path]:
    found = []
    for folder, folders, files in os.walk(root):
        if len(Path(folder).relative_to(root).parts) >= DEPTH:
            folders.clear()
        found += [Path(folder, name) for name in files if name.endswith(".json")]
    return sorted(file for file in found if _holds_boxes(file))


def _holds_boxes(file: Path) -> bool:
    """Say whether a JSON file looks like COCO, without reading all of it."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        ends = stream.read(PEEK_BYTES)
        stream.seek(max(0, size - PEEK_BYTES))
        ends += stream.read()
    return b'"bbox"' in ends or b'"annotations"' in ends


def _splits_of(files: list[Path]) -> dict[Path, str | None]:
    """Name the split of each file by its own name or its folder's."""
    splits: dict[Path, str | None] = {}
    for file in files:
        words = re.split(r"[^a-z]+", f"{file.parent.name}_{file.stem}".lower())
        split = next((SPLIT_NAMES[word] for word in reversed(words) if word in SPLIT_NAMES), None)
        if split is None:
            raise InputError(f"{file}: its name says no split (train, val, test) and it is not alone: give one file")
        if split in splits.values():
            other = next(f for f, s in splits.items() if s == split)
            raise InputError(f"{file} and {other} are both of the split {split}: give one of them as the source")
        splits[file] = split
    return splits


def _pictures(file: Path, root: Path, split: str | None, names: dict[str, None]) -> Iterator[Picture]:
    body = _read(file)
    categories = {_field(c, "id", int, file): _field(c, "name", str, file) for c in body["categories"]}
    names.update(dict.fromkeys(categories[key] for key in sorted(categories)))
    of_image: dict[Any, list[Json]] = {}
    for annotation in body["annotations"]:
        of_image.setdefault(_field(annotation, "image_id", object, file), []).append(annotation)
    find = _Finder(file, root)
    for image in body["images"]:
        size = _field(image, "width", int, file), _field(image, "height", int, file)
        boxes = _boxes(of_image.pop(_field(image, "id", object, file), []), categories, size, file)
        yield Picture(find(_field(image, "file_name", str, file)), *size, split, tuple(boxes))
    if of_image:
        raise InputError(f"{file}: an annotation is of the image {next(iter(of_image))!r}, which is not in it")


def _read(file: Path) -> dict[str, list[Json]]:
    try:
        body = json.loads(file.read_bytes())
    except (ValueError, OSError) as error:
        raise InputError(f"{file} is not readable JSON ({error}): export it again") from None
    for key in ("images", "annotations", "categories"):
        part = body.get(key) if isinstance(body, dict) else None
        if not isinstance(part, list) or not all(isinstance(item, dict) for item in part):
            raise InputError(f"{file} is not COCO: it has no list {key!r}")
    return {key: body[key] for key in ("images", "annotations", "categories")}


def _field(item: Json, key: str, kind: type, file: Path) -> Any:
    value = item.get(key)
    if value is None or not isinstance(value, kind):
        raise InputError(f"{file}: {key!r} is {value!r} in {str(item)[:80]}")
    return value


def _boxes(annotations: list[Json], categories: dict[int, str], size: tuple[int, int], file: Path) -> list[Box]:
    """Read an image's boxes through the kept library, which checks them."""
    if not annotations:
        return []
    from supervision.dataset.formats.coco import coco_annotations_to_detections

    try:
        found = coco_annotations_to_detections(annotations, size, with_masks=False)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        where = annotations[0].get("image_id")
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{file}: an annotation of the image {where!r} is malformed ({reason})") from None
    if not np.isfinite(found.xyxy).all():
        raise InputError(f"{file}: a box of the image {annotations[0].get('image_id')!r} is not finite")
    numbers = [] if found.class_id is None else found.class_id.tolist()
    if unknown := set(numbers) - set(categories):
        raise InputError(f"{file}: the category {min(unknown)} is used and not listed")
    crowds = found.data["iscrowd"]
    return [
        Box(categories[category], tuple(map(float, xyxy)), skip="crowd" if crowd else None)  # type: ignore[arg-type]
        for category, xyxy, crowd in zip(numbers, found.xyxy, crowds, strict=True)
    ]


class _Finder:
    """Finds the image of a `file_name`: beside the JSON, in `images` or `data`, or anywhere below by its name."""

    def __init__(self, file: Path, root: Path) -> None:
        self.root = root
        self.bases = [file.parent, file.parent / "images", file.parent / "data", file.parent.parent / "images"]
        self.bases += [base / file.stem.rsplit("_", 1)[-1] for base in (file.parent, file.parent.parent)]
        self.by_name: dict[str, Path] | None = None

    def __call__(self, name: str) -> str:
        for base in self.bases:
            if (base / name).is_file():
                self.bases.remove(base)
                self.bases.insert(0, base)
                return os.path.relpath(base / name, self.root).replace(os.sep, "/")
        if self.by_name is None:
            below = self.root.rglob("*")
            self.by_name = {p.name: p for p in below if p.suffix.lower() in IMAGE_SUFFIXES}
        found = self.by_name.get(Path(name).name)
        return name if found is None else os.path.relpath(found, self.root).replace(os.sep, "/")
