"""Pascal VOC: `Annotations/*.xml` beside `JPEGImages`, or XML files beside their images."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from inference.errors import InputError
from inference.images import IMAGE_SUFFIXES, SPLIT_NAMES
from training.detections import Box, Picture, list_crops
from training.importers import Listing, Options
from training.importers.folder import group_finder

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

TRUNCATED, OCCLUDED = 0.5, 1
"""What VOC's flags, which say only yes or no, count as in `--max-truncated` and `--max-occluded`."""


def matches(source: str) -> bool:
    """Say whether a folder holds VOC annotations."""
    return Path(source).is_dir() and bool(_annotation_files(Path(source)))


def read(source: str, options: Options) -> Listing:
    """List the boxes of a Pascal VOC data set."""
    root = Path(source)
    files = _annotation_files(root)
    if not files:
        raise InputError(f"{source} holds no Pascal VOC annotation: give the folder that holds Annotations")
    lists = _split_lists(root)
    pictures = [_picture(file, root, lists) for file in files if not lists or file.stem in lists]
    if not pictures:
        raise InputError(f"{root / 'ImageSets/Main'} names none of the annotations in {root}: correct the lists")
    names = sorted({box.label for picture in pictures for box in picture.boxes})
    return list_crops("voc", str(root.resolve()), pictures, names, options, group_finder(root, options))


def _annotation_files(root: Path) -> list[Path]:
    inside = root / "Annotations"
    return sorted(inside.glob("*.xml")) if inside.is_dir() else sorted(p for p in root.glob("*/*.xml"))


def _split_lists(root: Path) -> dict[str, str]:
    """Return {file stem: split} from ImageSets/Main, empty when there are no such lists."""
    found: dict[str, str] = {}
    for split in ("train", "val", "test"):
        file = root / "ImageSets" / "Main" / f"{split}.txt"
        for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else ():
            if line.strip() and found.setdefault(line.split()[0], split) != split:
                raise InputError(f"{file}: {line.split()[0]} is also in {found[line.split()[0]]}.txt: remove one")
    return found


def _picture(file: Path, root: Path, lists: dict[str, str]) -> Picture:
    from defusedxml.common import DefusedXmlException
    from defusedxml.ElementTree import ParseError, parse

    try:
        tree = parse(file).getroot()
        size = _number(tree, "size/width"), _number(tree, "size/height")
        boxes = tuple(_boxes(tree))
    except (ParseError, ValueError, OSError, DefusedXmlException) as error:
        raise InputError(f"{file} is malformed ({' '.join(str(error).split())})") from None
    folder = file.parent.name.lower()
    split = lists.get(file.stem) or SPLIT_NAMES.get(folder)
    image = _image_of(file, tree.findtext("filename") or "")
    return Picture(os.path.relpath(image, root).replace(os.sep, "/"), *size, split, boxes)


def _number(element: Element, path: str, default: int | None = None) -> int:
    text = element.findtext(path)
    if text is None and default is not None:
        return default
    try:
        return int(float(text or ""))
    except ValueError:
        raise ValueError(f"{path} is {text!r}") from None


def _boxes(tree: Element) -> list[Box]:
    """Read the boxes through the kept library (1-based corners), the flags that it leaves out beside it."""
    from supervision.dataset.formats.pascal_voc import detections_from_xml_obj

    found, names = detections_from_xml_obj(tree, [], (1, 1))
    numbers = [] if found.class_id is None else found.class_id.tolist()
    return [
        Box(
            names[number],
            tuple(map(float, xyxy)),  # type: ignore[arg-type]
            truncated=TRUNCATED * (_number(thing, "truncated", 0) > 0),
            occluded=OCCLUDED * (_number(thing, "occluded", 0) > 0),
            skip="difficult" if _number(thing, "difficult", 0) > 0 else None,
        )
        for thing, number, xyxy in zip(tree.findall("object"), numbers, found.xyxy, strict=True)
    ]


def _image_of(file: Path, name: str) -> Path:
    """Return the image of an annotation: as named, or with its stem; the decoder says when there is none."""
    folders = [file.parent, file.parent.parent / "JPEGImages", file.parent.parent / "images"]
    named = [folder / name for folder in folders if name]
    with_stem = [folder / (file.stem + suffix) for folder in folders for suffix in sorted(IMAGE_SUFFIXES)]
    return next((path for path in named + with_stem if path.is_file()), named[0] if named else with_stem[0])
