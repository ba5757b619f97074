"""The importer of COCO JSON: one file, or a folder with a file for each split; images are in any folder below."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from core.errors import InputError
from training.data.detections.annotated_boxes import AnnotatedBox, AnnotatedPicture, SkippedAnnotation
from training.data.detections.annotation_files import Claims, boxes_of, number_of, resolve_size, whole_of
from training.data.detections.boxes_to_crops import DetectionSet, count_warning, listing_of
from training.data.importers.coco.layout import PictureFinder, annotation_files, choose_files, is_coco, path_parts
from training.data.listing import Listing, PackOptions

Json = dict[str, Any]


def matches(source: str) -> bool:
    """Say whether the source is a COCO file, or a folder that holds one."""
    return is_coco(Path(source))


def read(source: str, options: PackOptions) -> Listing:
    """List the boxes of a COCO data set."""
    path = Path(source)
    files = [path] if path.is_file() else annotation_files(path)
    if not files:
        raise InputError(f"{source} holds no COCO JSON: give the file itself")
    splits, warnings = choose_files(files)
    finder = PictureFinder(path)
    files_read = [_CocoFile(file, split, finder) for file, split in splits.items()]
    pictures = [picture for file in files_read for picture in file.pictures()]
    names = dict.fromkeys(name for file in files_read for name in file.names)
    skipped = [skipped for file in files_read for skipped in file.skipped]
    warnings += [line for file in files_read for line in count_warning("left out: entries of images", file.unusable)]
    return listing_of(DetectionSet("coco", finder.root, pictures, names, skipped, warnings), options)


class _CocoFile:
    """One COCO file."""

    def __init__(self, file: Path, split: str | None, finder: PictureFinder) -> None:
        self.file = file
        self.split = split
        self.finder = finder
        self.body = _read(file)
        self.categories = _categories(self.body["categories"], file)
        # by id, which is how other tools number the classes of the file
        by_id = sorted(self.categories.items(), key=lambda item: _sort_key(item[0]))
        self.names = [name for _, name in by_id]
        self.skipped: list[SkippedAnnotation] = []
        """Annotations that belong to no picture."""
        self.unusable: list[str] = []
        """Entries of `images` without an id or a file name."""

    def pictures(self) -> Iterator[AnnotatedPicture]:
        """Yield the pictures with their boxes. Raises InputError where two entries are one picture or share an id."""
        of_image: dict[Any, list[Json]] = {}
        for annotation in self.body["annotations"]:
            if not isinstance(annotation, dict):
                self.skipped.append(SkippedAnnotation("malformed", f"{self.file}: {annotation!r:.80} is no annotation"))
                continue
            of_image.setdefault(_id(annotation.get("image_id")), []).append(annotation)
        images, ids = [], Claims()
        for entry in self.body["images"]:
            key = _id(entry.get("id")) if isinstance(entry, dict) else None
            name = entry.get("file_name") if isinstance(entry, dict) else None
            if key is None or not isinstance(name, str) or not path_parts(name):
                self.unusable.append(f"{self.file}: {_excerpt(entry)}")
            else:
                ids.claim(f"the image id {key!r} in {self.file}", name)
                images.append((key, name, entry))
        self.finder.expect(name for _, name, _ in images)
        unique = {key: (key, name, entry) for key, name, entry in images}  # an entry may be repeated word for word
        for key, name, entry in unique.values():
            source = self.finder.find(name, self.file, self.split)
            self.finder.claims.claim(f"the picture {source}", f"the image id {key!r} in {self.file}")
            yield self._picture(source, entry, of_image.pop(key, []))
        self.skipped += [
            SkippedAnnotation("of an image that is not listed", f"{self.file}: {_excerpt(annotation)}")
            for annotations in of_image.values()
            for annotation in annotations
        ]

    def _picture(self, source: str, entry: Json, annotations: list[Json]) -> AnnotatedPicture:
        size = resolve_size(entry.get("width"), entry.get("height"), self.finder.root / source)
        named = ((f"{self.file}: {_excerpt(annotation)}", annotation) for annotation in annotations)
        labels = boxes_of(named, self._box)
        return AnnotatedPicture(source, *size, self.split, *labels)

    def _box(self, annotation: Json) -> AnnotatedBox:
        category = _id(annotation.get("category_id"))
        if category not in self.categories:
            raise ValueError(f"category_id is {annotation.get('category_id')!r}, which is not listed")
        given = annotation.get("bbox")
        if not isinstance(given, list) or len(given) != 4:
            raise ValueError("no bbox of four numbers")
        x, y, width, height = map(number_of, given)
        if width < 0 or height < 0:  # 0 is an empty box, which is left out later with its own reason
            raise ValueError("a bbox of negative size")
        # a crowd is one box around many objects; tools write the flag as a number, a text or a bool
        skip = "crowd" if annotation.get("iscrowd") in (1, True, "1", 1.0) else None
        return AnnotatedBox(self.categories[category], (x, y, x + width, y + height), skip=skip)


def _read(file: Path) -> dict[str, list[Json]]:
    try:
        body = json.loads(file.read_bytes())
    except (ValueError, OSError, RecursionError) as error:
        raise InputError(f"{file} is not readable JSON ({error}): export it again") from None
    for key in ("images", "annotations", "categories"):
        part = body.get(key) if isinstance(body, dict) else None
        if not isinstance(part, list):
            raise InputError(f"{file} is not COCO: it has no list {key!r}; export as COCO, YOLO or Pascal VOC")
    first = body["annotations"][:1]
    if any("segments_info" in annotation for annotation in first if isinstance(annotation, dict)):
        raise InputError(f"{file} is COCO panoptic, which has no boxes of objects: give the instances file")
    return {key: body[key] for key in ("images", "annotations", "categories")}


def _categories(entries: list[Json], file: Path) -> dict[Any, str]:
    """Return {id: name}. Raises InputError where one id has two names."""
    found: dict[Any, str] = {}
    ids = Claims()
    for entry in filter(lambda entry: isinstance(entry, dict), entries):
        key = _id(entry.get("id"))
        name = str(entry.get("name") or "").strip()
        if key is not None and name:
            ids.claim(f"the category id {key!r} in {file}", name)
            found[key] = name
    return found


def _id(value: Any) -> int | str | None:
    """Return an id, None for a value that is none. 7, 7.0, "7" and "7.0" are one id; "007" and "drive_1" are texts."""
    if isinstance(value, str) and not re.fullmatch(r"-?(0|[1-9][0-9]{0,999})(\.0+)?", value.strip()):
        return value.strip() or None
    try:
        return whole_of(value)
    except ValueError:
        return None


def _sort_key(key: int | str) -> tuple[bool, int, str]:
    """Return the sort key of an id: numbers by size first, then texts."""
    return (True, 0, key) if isinstance(key, str) else (False, key, "")


def _excerpt(entry: Any) -> str:
    """Return the start of an entry for a message, without its polygon, which may be long."""
    plain = {key: entry[key] for key in entry if key != "segmentation"} if isinstance(entry, dict) else entry
    return str(plain)[:80]
