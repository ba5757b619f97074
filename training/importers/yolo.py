"""YOLO txt with data.yaml: `SPLIT/images/*` beside `SPLIT/labels/*.txt`, or `images/SPLIT` beside `labels/SPLIT`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from inference.errors import InputError
from inference.images import SPLIT_NAMES
from training.detections import Box, Picture, list_crops
from training.images import image_size
from training.importers import Listing, Options
from training.importers.folder import group_finder, images_in


def matches(source: str) -> bool:
    """Say whether the source is a data.yaml, or a folder that holds one."""
    return _yaml_of(Path(source)) is not None


def read(source: str, options: Options) -> Listing:
    """List the boxes of a YOLO data set."""
    file = _yaml_of(Path(source))
    if file is None:
        raise InputError(f"{source} holds no data.yaml: give the YAML file itself")
    body, root = _read_yaml(file), file.parent
    names = _names(body, file)
    pictures = [
        _picture(image, root, SPLIT_NAMES[key], names)
        for key in body
        if key in SPLIT_NAMES
        for image in _images(body, key, file)
    ]
    if not pictures:
        raise InputError(f"{file} names no image: give train, val and test, folders of images")
    return list_crops("yolo", str(root.resolve()), pictures, names, options, group_finder(root, options))


def _yaml_of(path: Path) -> Path | None:
    if path.is_file():
        return path if path.suffix in (".yaml", ".yml") else None
    return next((file for name in ("data.yaml", "data.yml", "dataset.yaml") if (file := path / name).is_file()), None)


def _read_yaml(file: Path) -> dict[str, Any]:
    import yaml

    try:
        body = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"{file} is not readable YAML ({' '.join(str(error).split())[:120]})") from None
    if not isinstance(body, dict):
        raise InputError(f"{file} is not a YOLO data file: it has no `names`")
    return body


def _names(body: dict[str, Any], file: Path) -> list[str]:
    names = body.get("names")
    if isinstance(names, dict) and sorted(names) == list(range(len(names))):
        names = [names[i] for i in range(len(names))]
    if not isinstance(names, list) or not names or len(set(map(str, names))) < len(names):
        raise InputError(f"{file}: `names` must list the classes by number, each once")
    return [str(name) for name in names]


def _images(body: dict[str, Any], key: str, file: Path) -> list[Path]:
    """Return the images of a split. What exporters write as its folder is often wrong by the folder above."""
    given = body[key] if isinstance(body[key], list) else [body[key]]
    found = []
    for entry in map(str, (e for e in given if e)):
        bases = [file.parent / str(body.get("path") or ""), file.parent, Path()]
        tails = [Path(entry), Path(*(p for p in Path(entry).parts if p != "..")), Path(*Path(entry).parts[-2:])]
        folder = next((b / t for b in bases for t in tails if (b / t).exists()), None)
        if folder is None:
            raise InputError(f"{file}: {key} is {entry}, which does not exist: correct the path")
        found += images_in(folder) if folder.is_dir() else _listed(folder)
    return found


def _listed(file: Path) -> list[Path]:
    """Read a text file that names one image a line."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file} is not a list of images ({error})") from None
    return [file.parent / line.strip() for line in lines if line.strip()]


def _picture(image: Path, root: Path, split: str, names: list[str]) -> Picture:
    size = image_size(image)
    source = os.path.relpath(image, root).replace(os.sep, "/")
    if size is None:
        return Picture(source, 0, 0, split)
    parts = list(image.parts)
    if "images" in parts:
        parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    label_file = Path(*parts).with_suffix(".txt")
    boxes = tuple(_boxes(label_file, size, names)) if label_file.is_file() else ()
    return Picture(source, *size, split, boxes)


def _boxes(file: Path, size: tuple[int, int], names: list[str]) -> Iterator[Box]:
    """Read a label file through the kept library, which also turns polygons into their boxes."""
    from supervision.dataset.formats.yolo import yolo_annotations_to_detections

    try:
        lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
        found = yolo_annotations_to_detections(lines, size, with_masks=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{file} is malformed ({' '.join(str(error).split())})") from None
    if not np.isfinite(found.xyxy).all():
        raise InputError(f"{file} is malformed (a box is not finite)")
    numbers = [] if found.class_id is None else found.class_id.tolist()
    for xyxy, number in zip(found.xyxy.tolist(), numbers, strict=True):
        if not 0 <= number < len(names):
            raise InputError(f"{file} is malformed (class {number}, but data.yaml names {len(names)} classes)")
        yield Box(names[number], tuple(xyxy))
