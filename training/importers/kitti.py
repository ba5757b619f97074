"""KITTI object: `label_2/*.txt` beside `image_2/*.png`, in the folder itself or in its `training`."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

from inference.errors import InputError
from training.detections import Box, Picture, list_crops
from training.images import image_size
from training.importers import Listing, Options
from training.importers.folder import group_finder, images_in

FIELDS = 15
"""type, truncated, occluded, alpha, 4 of the 2D box, 3 dimensions, 3 of the location, rotation_y."""
NO_OBJECT = "DontCare"


def matches(source: str) -> bool:
    """Say whether a folder holds KITTI labels."""
    return _base(Path(source)) is not None


def read(source: str, options: Options) -> Listing:
    """List the boxes of a KITTI object data set."""
    root = Path(source)
    base = _base(root)
    if base is None:
        raise InputError(f"{source} holds no folder label_2: give the folder that holds label_2 and image_2")
    pictures = []
    for image in images_in(base / "image_2") if (base / "image_2").is_dir() else []:
        labels = base / "label_2" / f"{image.stem}.txt"
        name = os.path.relpath(image, root).replace(os.sep, "/")
        width, height = image_size(image) or (0, 0)
        pictures.append(Picture(name, width, height, None, tuple(_boxes(labels) if labels.is_file() else ())))
    if not pictures:
        raise InputError(f"{base / 'image_2'} holds no image: put KITTI's left colour images there")
    names = sorted({box.label for picture in pictures for box in picture.boxes if box.label != NO_OBJECT})
    return list_crops("kitti", str(root.resolve()), pictures, names, options, group_finder(root, options))


def _base(root: Path) -> Path | None:
    return next((base for base in (root, root / "training") if (base / "label_2").is_dir()), None)


def _boxes(file: Path) -> Iterator[Box]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file} is malformed ({error})") from None
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield _box(line.split(), f"{file}, line {number},")


def _box(words: list[str], where: str) -> Box:
    if len(words) not in (FIELDS, FIELDS + 1):  # a detector's own results have a score at the end
        raise InputError(f"{where} is malformed ({len(words)} fields, KITTI has {FIELDS})")
    try:
        truncated, occluded = float(words[1]), int(float(words[2]))
        x0, y0, x1, y1 = (float(word) for word in words[4:8])
    except ValueError as error:
        raise InputError(f"{where} is malformed ({error})") from None
    if not all(map(math.isfinite, (truncated, x0, y0, x1, y1))) or x1 < x0 or y1 < y0:
        raise InputError(f"{where} is malformed (a box from {x0}, {y0} to {x1}, {y1})")
    skip = "don't care" if words[0] == NO_OBJECT else None
    return Box(words[0], (x0, y0, x1, y1), truncated, occluded, skip)
