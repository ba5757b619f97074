"""The layout of a YOLO data set: its classes, pictures and splits, by data.yaml, obj.data, or files beside labels."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.data.picture_files import IMAGE_SUFFIXES, SPLIT_NAMES, is_hidden, scan
from core.errors import InputError
from training.data.detections.annotation_files import read_named_text, read_text, whole_of
from training.data.detections.boxes_to_crops import count_warning
from training.data.importers.yolo.labels import label_file_of

YAML_SUFFIXES = (".yaml", ".yml")
NAMES_FILES = ("classes.txt", "obj.names", "_darknet.labels", "predefined_classes.txt")
MAX_CLASSES = 10_000
YAML_NULLS = ("", "~", "null", "Null", "NULL")
Images = list[tuple[Path, str | None]]


@dataclass(frozen=True)
class Layout:
    """A YOLO data set as it lies on the disk."""

    root: Path
    names: list[str]
    images: Images
    """Each picture once, with its split."""
    keypoint_values: int = 0
    warnings: list[str] = field(default_factory=list)


def is_yolo(path: Path) -> bool:
    """Say whether a path is a YOLO data set, without reading its labels."""
    if path.is_file():
        return path.suffix in YAML_SUFFIXES or path.suffix == ".data"
    if not path.is_dir():
        return False
    if _data_files(path):
        return True
    if not _names_files(path) and not any(path.glob("labels")) and not any(path.glob("*/labels")):
        return False
    return any(label_file_of(image).is_file() for image in scan(path).pictures)


def find_layout(path: Path, resplit: bool) -> Layout:
    """Find classes, pictures and splits. Raises InputError naming what is missing or ambiguous."""
    files = [path] if path.is_file() else _data_files(path)
    if len(files) > 1:
        raise InputError(f"{files[0]} and {files[1]} both describe {path}: give one of them as the source")
    if not files:
        return _without_data_file(path)
    file = files[0]
    body = _read_yaml(file) if file.suffix in YAML_SUFFIXES else _read_darknet(file)
    named = [key for key in body if key in SPLIT_NAMES]
    if keys := [key for key in named if body[key]]:
        images, notes = _ListedPictures(file, body).images(keys, resplit)
    else:  # names alone: supervision writes no more
        images, notes = _by_folder(file.parent), []
    if not images:
        raise InputError(f"{file} names no image: give train, val and test, folders of images")
    names, warnings = _names(body, file)
    return Layout(file.parent, names, images, _keypoint_values(body, file), warnings + notes)


def _data_files(folder: Path) -> list[Path]:
    """Return the files in a folder that describe a data set: YAML with names or splits, and Darknet's *.data."""
    found = []
    for file in sorted(folder.iterdir()):
        suits = file.suffix in (*YAML_SUFFIXES, ".data") and not is_hidden(file.name)
        if suits and file.is_file() and _describes(file):
            found.append(file)
    return found


def _describes(file: Path) -> bool:
    if file.stem in ("data", "dataset") and file.suffix != ".data":
        return True  # by its name; reading it says when it is malformed
    try:
        body = _read_darknet(file) if file.suffix == ".data" else _read_yaml(file)
    except InputError:
        return False
    return bool({"names", *SPLIT_NAMES} & set(body))


def _read_yaml(file: Path) -> dict[str, Any]:
    import yaml

    text = read_named_text(file)
    # Source: ultralytics/utils, YAML.load, which drops what YAML does not allow
    text = re.sub(r"[^\t\n\r -~\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]+", "", text)
    try:
        body = yaml.load(text, yaml.BaseLoader)  # all is text: a class called `no` is not False
    except (ValueError, yaml.YAMLError) as error:
        raise InputError(f"{file} is not readable YAML ({' '.join(str(error).split())[:120]})") from None
    if not isinstance(body, dict):
        raise InputError(f"{file} is not a YOLO data file: it has no `names`")
    return {str(key): value for key, value in body.items() if value not in YAML_NULLS}


def _read_darknet(file: Path) -> dict[str, Any]:
    """Read `key = value` lines as what a data.yaml would hold."""
    body: dict[str, Any] = {}
    for line in read_named_text(file).splitlines():
        key, equals, value = line.partition("=")
        if equals and not key.lstrip().startswith("#"):
            body[key.strip()] = value.strip()
    if "names" in body:
        names = locate(str(body["names"]), [file.parent])
        if names is None or not names.is_file():
            raise InputError(f"{file}: names is {body['names']}, which does not exist: correct the path")
        body["names"] = _read_names(names)
    if "classes" in body:
        body["nc"] = body["classes"]
    return body


def _read_names(file: Path) -> list[str]:
    names = [line.strip() for line in read_named_text(file).rstrip().splitlines()]
    if not names or not all(names):
        raise InputError(f"{file} must hold one class name a line: line {names.index('') + 1 if names else 1} is empty")
    return names


def _names(body: dict[str, Any], file: Path) -> tuple[list[str], list[str]]:
    """Return the classes by number, and warnings about them."""
    names, count = body.get("names"), body.get("nc")  # nc: the number of classes
    try:
        if names is None and count is not None:
            return [f"class_{i}" for i in range(whole_of(count))], []  # as Ultralytics calls them
        if isinstance(names, dict):
            by_number = {whole_of(key): name for key, name in names.items()}
            names = [by_number[i] for i in range(len(names))]  # KeyError: a number is missing
        if isinstance(names, list) and count is not None and whole_of(count) != len(names):
            raise InputError(f"{file}: nc is {count}, and `names` lists {len(names)} classes: correct either")
    except (ValueError, KeyError):
        names = None
    if not isinstance(names, list) or not names or not all(str(name).strip() for name in names):
        raise InputError(f"{file}: `names` must list the classes by number from 0, each once")
    listed = [str(name).strip() for name in names]
    repeated = {name for name in listed if listed.count(name) > 1}
    return listed, count_warning("class names that stand for several numbers", repeated)


def _keypoint_values(body: dict[str, Any], file: Path) -> int:
    """Return the number of values of key points after each box."""
    shape = body.get("kpt_shape")
    if shape is None:
        return 0
    try:
        points, values = map(whole_of, shape)
    except (ValueError, TypeError):
        points, values = 0, 0
    if points < 1 or values not in (2, 3):
        raise InputError(f"{file}: kpt_shape is {shape}, expected the number of key points and 2 or 3")
    return points * values


def locate(entry: str, bases: list[Path]) -> Path | None:
    """Return a path that another tool or machine wrote: below one of `bases`, whole or without its first folders.

    At least two parts of a folder or a picture must match, because `images` alone may belong to another split.
    """
    plain = entry.strip().replace("\\", "/")  # as Windows writes it
    parts = [part for part in plain.split("/") if part not in ("", ".", "..")]
    fewest_parts = 1 if Path(plain).suffix in (".txt", ".names") else 2
    # /home/me/set/images/train, set/images/train, images/train: the longest that exists wins
    tails = ["/".join(parts[i:]) for i in range(max(1, len(parts) - fewest_parts + 1))]
    for tail in (plain, *tails):
        for base in bases:
            if (base / tail).exists():
                return base / tail
    return None


class _ListedPictures:
    """Finds the pictures that a data file names."""

    def __init__(self, file: Path, body: dict[str, Any]) -> None:
        self.file = file
        self.body = body
        # `path` is relative to the data file, or absolute, or of another machine; the data file's folder is left then
        folder = Path(str(body.get("path") or "").strip().replace("\\", "/"))
        self.bases = [file.parent / folder, folder, file.parent] if folder.parts else [file.parent]
        self.warnings: list[str] = []

    def images(self, keys: list[str], resplit: bool) -> tuple[Images, list[str]]:
        """Return each picture of these splits once, and warnings. With `resplit` only train must hold pictures."""
        found: dict[tuple[Path, str | None], str] = {}
        repeated: list[str] = []
        for key in keys:
            split = SPLIT_NAMES[key]
            given = self.body[key] if isinstance(self.body[key], list) else [self.body[key]]
            for entry in (str(key_of_image) for key_of_image in given if key_of_image not in YAML_NULLS):
                try:
                    images = self._images_of(key, entry)
                except InputError as error:
                    if not resplit or split == "train":
                        raise
                    self.warnings.append(str(error))
                    continue
                for image in images:
                    key_of_image = image, None if resplit else split
                    repeated += [str(image)] if key_of_image in found else []
                    found.setdefault(key_of_image, split)
        repeated = count_warning("pictures that are listed more than once, taken once", repeated)
        return [(image, split) for (image, _), split in found.items()], self.warnings + repeated

    def _images_of(self, key: str, entry: str) -> list[Path]:
        where = locate(entry, self.bases)
        if where is None:
            raise InputError(f"{self.file}: {key} is {entry}, which does not exist: correct the path")
        # Roboflow writes `../train/images` where `train/images` is meant; where both exist nobody can tell which
        inside = self.file.parent / entry.replace("\\", "/").lstrip("./")
        if entry.startswith("..") and inside.exists() and not inside.samefile(where):
            raise InputError(f"{self.file}: {key} is {entry}, which may be {where} or {inside}: correct the path")
        images = scan(where).pictures if where.is_dir() else self._listed(where)
        if not images:
            raise InputError(f"{self.file}: {key} is {entry}, which holds no image: correct the path")
        return images

    def _listed(self, file: Path) -> list[Path]:
        """Read a text file that names one picture a line."""
        lines = list(filter(None, map(str.strip, read_named_text(file).splitlines())))
        pictures = [line for line in lines if Path(line).suffix.lower() in IMAGE_SUFFIXES]
        others = set(lines).difference(pictures)
        self.warnings += count_warning(f"left out: lines of {file} that name no picture by their suffix", others)
        bases = [file.parent, *self.bases]
        # a picture that is nowhere stays in the list: decoding rejects it by name
        return [locate(line, bases) or file.parent / line.replace("\\", "/") for line in pictures]


def _without_data_file(root: Path) -> Layout:
    """Take the pictures by their folders, and the names from a file beside the labels."""
    images, files = _by_folder(root), _names_files(root)
    if not any(label_file_of(image).is_file() for image, _ in images):  # some pictures may have no object
        raise InputError(f"{root} holds no data.yaml and no picture with a label file: give the YAML file itself")
    lists = {tuple(_read_names(file)): file for file in files}
    if len(lists) > 1:
        first, other = list(lists.values())[:2]
        raise InputError(f"{first} and {other} name different classes: remove the wrong one")
    if lists:
        return Layout(root, list(next(iter(lists))), images)
    names = [f"class_{i}" for i in range(_highest_class(images) + 1)]
    notes = f"no classes.txt and no data.yaml names the classes: they are called {names[0]} to {names[-1]}"
    return Layout(root, names, images, warnings=[notes])


def _names_files(root: Path) -> list[Path]:
    return sorted(p for depth in ("", "*/", "*/*/") for name in NAMES_FILES for p in root.glob(depth + name))


def _by_folder(root: Path) -> Images:
    """Return all pictures with the split that the nearest folder is named after."""
    images: Images = []
    for image in scan(root).pictures:
        images.append((image, _split_of(image.relative_to(root).parts[:-1])))
    without = next((image for image, split in images if split is None), None)
    within = next((image for image, split in images if split is not None), None)
    if without and within:
        raise InputError(f"{within} is in a folder of a split and {without} is not: move it, or write a data.yaml")
    return images


def _split_of(folders: tuple[str, ...]) -> str | None:
    for folder in reversed(folders):
        # train, obj_train_data (CVAT), train2017 (COCO)
        word = re.fullmatch(r"(?:obj_)?([a-z]+?)(?:_data)?(?:\d{4})?", folder.lower())
        if word and word[1] in SPLIT_NAMES:
            return SPLIT_NAMES[word[1]]
    return None


def _highest_class(images: Images) -> int:
    """Return the highest class number in the label files."""
    numbers = [number for image, _ in images for number in _class_numbers(label_file_of(image))]
    if not numbers:
        raise InputError(f"no class number stands in the label files of {images[0][0].parent}: are they YOLO's?")
    return max(numbers)


def _class_numbers(file: Path) -> Iterator[int]:
    try:
        lines = read_text(file).splitlines() if file.is_file() else []
    except ValueError:  # not text: the label reader counts and names it
        return
    for words in map(str.split, lines):
        with suppress(ValueError):
            if words and 0 <= (number := whole_of(words[0])) < MAX_CLASSES:
                yield number
