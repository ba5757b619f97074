"""The importer of YOLO txt, with a data.yaml, an obj.data, or label files alone (Label Studio, CVAT, LabelImg)."""

from __future__ import annotations

import os
from pathlib import Path

from training.data.detections.annotated_boxes import AnnotatedPicture
from training.data.detections.annotation_files import Claims, source_of
from training.data.detections.boxes_to_crops import DetectionSet, count_warning, listing_of
from training.data.importers.yolo.labels import LabelReader, label_file_of
from training.data.importers.yolo.layout import Layout, find_layout, is_yolo
from training.data.listing import Listing, PackOptions
from training.data.source_files import image_size

# text files that may lie beside the labels and are none
OTHER_TEXTS = ("classes.txt", "train.txt", "val.txt", "valid.txt", "test.txt")


def matches(source: str) -> bool:
    """Say whether the source is a data.yaml or obj.data, or a folder that holds one or YOLO's label files."""
    return is_yolo(Path(source))


def read(source: str, options: PackOptions) -> Listing:
    """List the boxes of a YOLO data set."""
    layout = find_layout(Path(source), options.resplit)
    labels = LabelReader(layout.names, layout.keypoint_values)
    claims = Claims()
    pictures = [_picture(image, split, layout.root, labels, claims) for image, split in layout.images]
    warnings = [*layout.warnings, *_without_picture(layout)]
    hint = f": {label_file_of(layout.images[0][0])} is not there"
    return listing_of(DetectionSet("yolo", layout.root, pictures, layout.names, (), warnings, hint), options)


def _picture(image: Path, split: str | None, root: Path, labels: LabelReader, claims: Claims) -> AnnotatedPicture:
    size = image_size(image)
    source = source_of(image, root)
    if size is None:  # unreadable: without a size the parts of a label file are no pixels
        return AnnotatedPicture(source, 0, 0, split)
    file = label_file_of(image)
    if not file.is_file():
        return AnnotatedPicture(source, *size, split, labeled=False)
    claims.claim(str(file), str(image))
    return AnnotatedPicture(source, *size, split, *labels.read(file, size))


def _without_picture(layout: Layout) -> list[str]:
    """Return a warning about label files that belong to no picture."""
    used = {label_file_of(image) for image, _ in layout.images}
    files = set[Path]()
    for folder in {file.parent for file in used}:
        files.update(folder.glob("[!._]*.txt"))  # ._1.txt is macOS's copy of a file's attributes
    unused = [file for file in files - used if file.name not in OTHER_TEXTS]
    return count_warning("left out: label files without a picture", (os.path.relpath(f, layout.root) for f in unused))
