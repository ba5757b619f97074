"""The importer of KITTI: `label_2` beside `image_2` (objects) or `label_02` beside `image_02` (tracking)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from core.data.picture_files import scan
from core.errors import InputError
from training.data.detections.annotated_boxes import AnnotatedBox, AnnotatedPicture, SkippedAnnotation
from training.data.detections.annotation_files import (
    Claims,
    Labels,
    boxes_of,
    number_of,
    read_label_lines,
    source_of,
    unreadable,
)
from training.data.detections.boxes_to_crops import DetectionSet, listing_of
from training.data.listing import Listing, PackOptions
from training.data.source_files import image_size

FIELDS = 15
"""type, truncated, occluded, alpha, 4 of the 2D box, 3 dimensions, 3 of the location, rotation_y."""
NO_OBJECT = "DontCare"
TRUNCATION_LEVELS = 2
"""Tracking gives truncation as 0, 1 or 2, which count as 0, 0.5 and 1 here."""
NO_LABELS: Labels = (), ()
PicturesAndSkipped = tuple[list[AnnotatedPicture], list[SkippedAnnotation]]


def matches(source: str) -> bool:
    """Say whether a folder holds KITTI labels."""
    return bool(_label_folders(Path(source)))


def read(source: str, options: PackOptions) -> Listing:
    """List the boxes of a KITTI object or tracking data set."""
    root = Path(source)
    folders = _label_folders(root)
    if not folders:
        raise InputError(f"{source} holds no folder label_2 (or label_02): give the folder that holds it and image_2")
    if len(folders) > 1:
        raise InputError(f"{folders[0]} and {folders[1]} are both there: give the folder that holds one of them")
    tracking = folders[0].name == "label_02"
    images = folders[0].with_name("image_02" if tracking else "image_2")
    pictures, skipped = (_tracked if tracking else _objects)(root, folders[0], images)
    if not pictures:
        raise InputError(f"{images} holds no image: put KITTI's left color images there")
    names = sorted({box.label for picture in pictures for box in picture.boxes if box.label != NO_OBJECT})
    # the frames of one drive resemble each other, so that a drive is one group
    group_of = _drive_of if tracking else None
    return listing_of(DetectionSet("kitti", root, pictures, names, skipped, group_of=group_of), options)


def _label_folders(root: Path) -> list[Path]:
    candidates = (base / name for base in (root, root / "training") for name in ("label_2", "label_02"))
    return [folder for folder in candidates if folder.is_dir()]


def _drive_of(source: str) -> str:
    return source.rpartition("/")[0]


def _objects(root: Path, labels: Path, images: Path) -> PicturesAndSkipped:
    """Return the pictures with their boxes, and the label files without a picture."""
    pictures, claims = [], Claims()
    unused = {file.stem: file for file in labels.glob("[!.]*.txt")}
    for image in _images_in(images):
        file = labels / f"{image.stem}.txt"
        if file.is_file():
            claims.claim(str(file), str(image))
        unused.pop(image.stem, None)
        boxes = _read(file, 0).get(0, NO_LABELS) if file.is_file() else None
        pictures.append(_picture(image, root, boxes))
    return pictures, [line for file in unused.values() for line in _without_picture(_read(file, 0), file)]


def _tracked(root: Path, labels: Path, images: Path) -> PicturesAndSkipped:
    """Return the frames of all drives with their boxes, and labels without a frame. A drive has one label file."""
    pictures: list[AnnotatedPicture] = []
    skipped: list[SkippedAnnotation] = []
    for file in sorted(labels.glob("[!.]*.txt")):
        frames = _read(file, 2)
        frames_known = None not in frames  # an object of an unknown frame may be in any
        for image in _images_in(images / file.stem):
            number = int(image.stem) if image.stem.isdecimal() else -1  # -1: no frame of the label file
            of_frame = frames.pop(number, NO_LABELS)
            pictures.append(_picture(image, root, of_frame, labeled=frames_known and number >= 0))
        skipped += _without_picture(frames, file)
    drives = sorted(images.iterdir()) if images.is_dir() else []
    for drive in drives:
        if not (labels / f"{drive.name}.txt").is_file():
            pictures += [_picture(image, root, None, labeled=False) for image in _images_in(drive)]
    return pictures, skipped


def _images_in(folder: Path) -> list[Path]:
    return scan(folder).pictures if folder.is_dir() else []


def _without_picture(frames: dict[int | None, Labels], file: Path) -> Iterator[SkippedAnnotation]:
    for number, (boxes, skipped) in frames.items():
        where = f"{file}, frame {number}"
        for box in boxes:
            if box.label != NO_OBJECT:
                yield SkippedAnnotation("of a picture that is not there", where)
        yield from skipped


def _picture(image: Path, root: Path, labels: Labels | None, labeled: bool = True) -> AnnotatedPicture:
    size = image_size(image) or (0, 0)
    boxes, skipped = labels or NO_LABELS
    known = labeled and labels is not None
    return AnnotatedPicture(source_of(image, root), *size, None, boxes, skipped, known)


def _read(file: Path, leading_fields: int) -> dict[int | None, Labels]:
    """Return the labels of each frame in a label file; those whose frame cannot be read have the key None.

    leading_fields: the number of fields before those of the object: 2 in tracking (frame and track), else 0, where all
    labels belong to frame 0.
    """
    lines_of: dict[int | None, list[tuple[str, list[str]]]] = {}
    try:
        for where, words in read_label_lines(file):
            if not leading_fields:
                frame: int | None = 0
            else:
                frame = int(words[0]) if words[0].isdecimal() else None
            lines_of.setdefault(frame, []).append((where, words[leading_fields:]))
    except (OSError, ValueError) as error:
        return {None if leading_fields else 0: unreadable(file, error)}
    return {frame: boxes_of(lines, partial(_box, tracking=leading_fields > 0)) for frame, lines in lines_of.items()}


def _box(words: list[str], tracking: bool) -> AnnotatedBox:
    if len(words) not in (FIELDS, FIELDS + 1):  # a detector's own results have a score at the end
        raise ValueError(f"{len(words)} fields of an object, KITTI has {FIELDS}")
    truncated, occluded = number_of(words[1]), int(number_of(words[2]))
    x0, y0, x1, y1 = (number_of(word) for word in words[4:8])
    if x1 < x0 or y1 < y0:  # equal corners are an empty box, which is left out later with its own reason
        raise ValueError(f"a box from {x0}, {y0} to {x1}, {y1}")
    skip = "don't care" if words[0] == NO_OBJECT else None
    if tracking:
        truncated /= TRUNCATION_LEVELS
    return AnnotatedBox(words[0], (x0, y0, x1, y1), truncated, occluded, skip)
