"""The importer of YOLO txt, with a data.yaml, an obj.data, or label files alone (Label Studio, CVAT, LabelImg)."""

from __future__ import annotations

import os
from pathlib import Path

from training.data.detections.annotations import Claims, source_of
from training.data.detections.boxes import Picture
from training.data.detections.boxes_to_crops import Annotated, counted, list_crops
from training.data.images import image_size
from training.data.importers.yolo.labels import LabelReader, label_file_of
from training.data.importers.yolo.layout import Layout, find_layout, is_yolo
from training.data.listing import Listing, Options

NO_LABELS = ("classes.txt", "train.txt", "val.txt", "valid.txt", "test.txt")


def matches(source: str) -> bool:
    """Say whether the source is a data.yaml or obj.data, or a folder that holds one or YOLO's label files."""
    return is_yolo(Path(source))


def read(source: str, options: Options) -> Listing:
    """List the boxes of a YOLO data set."""
    layout = find_layout(Path(source), options.resplit)
    labels, claims = LabelReader(layout.names, layout.keypoint_values), Claims()
    pictures = [_picture(image, split, layout.root, labels, claims) for image, split in layout.images]
    warnings = [*layout.warnings, *_without_picture(layout)]
    looked = f": {label_file_of(layout.images[0][0])} is not there"
    return list_crops(Annotated("yolo", layout.root, pictures, layout.names, (), warnings, looked), options)


def _picture(image: Path, split: str | None, root: Path, labels: LabelReader, claims: Claims) -> Picture:
    size = image_size(image)
    source = source_of(image, root)
    if size is None:
        return Picture(source, 0, 0, split)
    file = label_file_of(image)
    if not file.is_file():
        return Picture(source, *size, split, labelled=False)
    claims.claim(str(file), str(image))
    return Picture(source, *size, split, *labels.read(file, size))


def _without_picture(layout: Layout) -> list[str]:
    """Return a warning about label files that belong to no picture."""
    used = {label_file_of(image) for image, _ in layout.images}
    files = {file for folder in {file.parent for file in used} for file in folder.glob("[!._]*.txt")}
    alone = (os.path.relpath(file, layout.root) for file in files - used if file.name not in NO_LABELS)
    return counted("left out: label files without a picture", alone)
