"""The importer of Pascal VOC: `Annotations/*.xml` beside `JPEGImages`, or XML files beside their images."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element

from core.data.picture_files import IMAGE_SUFFIXES, SPLIT_NAMES, is_hidden
from core.errors import InputError
from training.data.detections.annotated_boxes import AnnotatedBox, AnnotatedPicture, SkippedAnnotation
from training.data.detections.annotation_files import (
    Claims,
    boxes_of,
    files_below,
    number_of,
    read_named_text,
    resolve_size,
    source_of,
)
from training.data.detections.boxes_to_crops import DetectionSet, count_warning, listing_of
from training.data.listing import Listing, PackOptions

TRUNCATED, OCCLUDED = 0.5, 1
"""Values of VOC's flags, which say only yes or no, for `--max-truncated` and `--max-occluded`."""
DEPTH = 4
PEEK_BYTES = 1 << 12
FLAGS = {"true": 1.0, "yes": 1.0, "false": 0.0, "no": 0.0, "unspecified": 0.0, "": 0.0}


def matches(source: str) -> bool:
    """Say whether a folder holds VOC annotations."""
    return Path(source).is_dir() and next(_annotation_files(Path(source)), None) is not None


def read(source: str, options: PackOptions) -> Listing:
    """List the boxes of a Pascal VOC data set."""
    root = Path(source)
    files = sorted(_annotation_files(root)) if root.is_dir() else []
    if not files:
        raise InputError(f"{source} holds no Pascal VOC annotation: give the folder that holds Annotations")
    reader = _Reader(root)
    pictures = [picture for file in files if (picture := reader.read(file))]
    if not pictures and reader.unlisted:
        raise InputError(f"{reader.unlisted[0]} and all others are in no list of ImageSets/Main: correct the lists")
    names = sorted({box.label for picture in pictures for box in picture.boxes})
    warnings = count_warning("left out: annotations that no list of ImageSets/Main names", map(str, reader.unlisted))
    return listing_of(DetectionSet("voc", root, pictures, names, reader.skipped, warnings), options)


def _annotation_files(root: Path) -> Iterator[Path]:
    """Return the XML files below a folder whose first element is `annotation`; CVAT's own format has `annotations`."""
    return filter(_is_annotation, files_below(root, ".xml", DEPTH))


def _is_annotation(file: Path) -> bool:
    with file.open("rb") as stream:
        start = stream.read(PEEK_BYTES).replace(b"\0", b"")  # UTF-16, too
    without_comments = re.sub(rb"<!--.*?-->", b"", start, flags=re.DOTALL)
    element = re.search(rb"<([A-Za-z]\w*)", without_comments)
    return bool(element and element[1] == b"annotation")


class _Reader:
    """Reads the annotations of one data set."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.skipped: list[SkippedAnnotation] = []
        """Annotation files that cannot be read."""
        self.unlisted: list[Path] = []
        self._claims = Claims()
        self._lists: dict[Path, dict[str, str]] = {}
        self._stems: dict[Path, dict[str, list[str]]] = {}

    def read(self, file: Path) -> AnnotatedPicture | None:
        """Return the picture of an annotation, None where no list names it or it is malformed."""
        from defusedxml.common import DefusedXmlException
        from defusedxml.ElementTree import ParseError, parse  # an entity could expand to gigabytes

        # the base is the folder that holds Annotations, JPEGImages and ImageSets
        above = next((p for p in file.parents if p.name == "Annotations"), file.parent)
        base = self.root if above == self.root and above.name != "Annotations" else above.parent
        if base not in self._lists:
            self._lists[base] = _split_lists(base)
        lists = self._lists[base]
        if lists and file.stem not in lists:
            self.unlisted.append(file)
            return None
        try:
            tree = parse(file).getroot()
        except (ParseError, ValueError, LookupError, OSError, DefusedXmlException) as error:
            self.skipped.append(SkippedAnnotation("in a malformed file", f"{file} ({' '.join(str(error).split())})"))
            return None
        image = self._image_of(file, base, (tree.findtext("filename") or "").strip())
        self._claims.claim(str(image), str(file))
        # the lists of VOC before the folders of other tools: Annotations/train/1.xml
        split = lists.get(file.stem) or SPLIT_NAMES.get(file.parent.name.lower())
        return self._picture(tree, file, image, split)

    def _image_of(self, file: Path, base: Path, name: str) -> Path:
        """Return the image of an annotation: as named, or with its stem; the decoder says when there is none.

        Raises InputError where its name and its `filename`, or its name alone, may mean two pictures.
        """
        plain = Path(name.replace("\\", "/")).name
        below = file.parent.relative_to(base).parts[1:]  # Annotations/day/1.xml is of JPEGImages/day/1.jpg
        folders: list[Path] = [
            file.parent,
            base / "JPEGImages" / Path(*below),
            base / "images" / Path(*below),
            base / "JPEGImages",
        ]
        for folder in folders:
            if folder not in self._stems:
                self._stems[folder] = _pictures_by_stem(folder)
            stems = self._stems[folder]
            # by the annotation's own stem with any suffix, or by the exact file name that it gives
            found = set[str](stems.get(file.stem, ()))
            if plain in stems.get(Path(plain).stem, ()):
                found.add(plain)
            if len(found) > 1:
                first, other = (str(folder / name) for name in sorted(found)[:2])
                raise InputError(f"{file}, of filename {name!r}, may be of {first} or {other}: remove or rename one")
            if found:
                return folder / found.pop()
        return folders[1] / (plain or f"{file.stem}.jpg")

    def _picture(self, tree: Element, file: Path, image: Path, split: str | None) -> AnnotatedPicture:
        objects = [(f"{file}, object {number}", each) for number, each in enumerate(tree.findall("object"), 1)]
        labels = boxes_of(objects, _box)
        size = resolve_size(tree.findtext("size/width"), tree.findtext("size/height"), image)
        return AnnotatedPicture(source_of(image, self.root), *size, split, *labels)


def _pictures_by_stem(folder: Path) -> dict[str, list[str]]:
    """Return {stem: names} of the pictures in a folder."""
    found: dict[str, list[str]] = {}
    for file in folder.iterdir() if folder.is_dir() else ():
        if file.suffix.lower() in IMAGE_SUFFIXES and not is_hidden(file.name):
            found.setdefault(file.stem, []).append(file.name)
    return found


def _split_lists(base: Path) -> dict[str, str]:
    """Return {file stem: split} from ImageSets/Main, empty when there are no such lists."""
    found: dict[str, str] = {}
    for split in ("train", "val", "test"):
        file = base / "ImageSets" / "Main" / f"{split}.txt"
        for words in map(str.split, read_named_text(file).splitlines() if file.is_file() else ()):
            if not words:
                continue
            path = Path(words[0].replace("\\", "/"))  # a stem in VOC, a path in what some tools write
            stem = path.stem if path.suffix.lower() in IMAGE_SUFFIXES else path.name
            if found.setdefault(stem, split) != split:
                raise InputError(f"{file}: {stem} is also in {found[stem]}.txt: remove one")
    return found


def _box(element: Element) -> AnnotatedBox:
    """Return the box of an object. Raises ValueError when it has no name or no box."""
    name = (element.findtext("name") or "").strip()
    if not name:
        raise ValueError("no name")
    corners = element.find("bndbox")
    if corners is None:
        raise ValueError("no bndbox")
    x0, y0, x1, y1 = (_corner(corners, edge) for edge in ("xmin", "ymin", "xmax", "ymax"))
    # VOC's corners are 1-based and inclusive; some tools write them in the other order
    return AnnotatedBox(
        name,
        (min(x0, x1) - 1, min(y0, y1) - 1, max(x0, x1), max(y0, y1)),
        truncated=TRUNCATED * _flag(element, "truncated"),
        occluded=OCCLUDED * _flag(element, "occluded"),
        skip="difficult" if _flag(element, "difficult") else None,
    )


def _corner(corners: Element, edge: str) -> float:
    try:
        return number_of((corners.findtext(edge) or "").strip())
    except ValueError as error:
        raise ValueError(f"{edge}: {error}") from None


def _flag(element: Element, name: str) -> bool:
    text = (element.findtext(name) or "").strip().lower()
    return (FLAGS[text] if text in FLAGS else number_of(text)) > 0
