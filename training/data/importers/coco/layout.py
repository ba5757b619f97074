"""The layout of a COCO data set: which JSON files are read, and which picture an entry means."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from core.data.picture_files import SPLIT_NAMES, scan
from core.errors import InputError
from training.data.detections.annotation_files import Claims, files_below
from training.data.detections.boxes_to_crops import count_warning

PEEK_BYTES = 1 << 16
DEPTH = 3
OTHER_TASKS = re.compile("captions|(person_)?keypoints|stuff|panoptic|image_info")
"""Beginnings of the names of files that COCO publishes beside the instances."""


def is_coco(path: Path) -> bool:
    """Say whether a path is a JSON file, or a folder that holds COCO."""
    return path.suffix.lower() == ".json" if path.is_file() else bool(annotation_files(path))


def annotation_files(root: Path) -> list[Path]:
    """Return the files in a folder and those below that look like COCO."""
    return sorted(file for file in files_below(root, ".json", DEPTH) if _holds_boxes(file))


def _holds_boxes(file: Path) -> bool:
    """Say whether a JSON file looks like COCO, without reading all of it: a list of results or tasks does not."""
    with file.open("rb") as stream:
        ends = stream.read(PEEK_BYTES)
        stream.seek(max(0, file.stat().st_size - PEEK_BYTES))
        ends += stream.read()
    text = ends.replace(b"\0", b"")  # UTF-16, too
    is_object = text.lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n").startswith(b"{")
    # the keys may come in any order, and in a large file only its two ends were read
    return is_object and (b'"annotations"' in text or (b'"bbox"' in text and b'"categories"' in text))


def choose_files(files: list[Path]) -> tuple[dict[Path, str | None], list[str]]:
    """Return {file to read: its split, by its name or its folder's}, and warnings about the other files.

    Where COCO publishes several files of one split, the instances are read.
    """
    by_split: dict[str | None, list[Path]] = {}
    for file in files:
        words = re.split(r"[^a-z]+", f"{file.parent.name}_{file.stem}".lower())
        split = next((SPLIT_NAMES[word] for word in reversed(words) if word in SPLIT_NAMES), None)
        by_split.setdefault(split, []).append(file)
    chosen: dict[Path, str | None] = {}
    for split, of_split in by_split.items():
        instances = [file for file in of_split if not OTHER_TASKS.match(file.stem.lower())]
        first, *more = instances or of_split
        if more and split is None:
            raise InputError(f"{first} and {more[0]} say no split (train, val, test) in their names: give one of them")
        if more:
            raise InputError(f"{first} and {more[0]} are both of the split {split}: give one of them as the source")
        chosen[first] = split
    if len(chosen) > 1 and None in chosen.values():
        first = next(file for file, split in chosen.items() if split is None)
        raise InputError(f"{first}: its name says no split (train, val, test) and it is not alone: give one file")
    others = (str(file) for file in files if file not in chosen)
    warnings = count_warning("left out: COCO files beside the instances", others)
    # one file alone is all of the data set, whatever its name says: its splits are drawn
    return (chosen if len(chosen) > 1 else dict.fromkeys(chosen)), warnings


class PictureFinder:
    """Finds the picture of a `file_name` by as much of its path as stands on the disk."""

    def __init__(self, source: Path) -> None:
        folder = source.parent if source.is_file() else source
        # annotations/instances.json: the pictures are beside the folder `annotations`, not inside it
        beside = source.is_file() and re.match("annotation|label", folder.resolve().name.lower())
        self.root = folder.resolve().parent if beside else folder
        self._by_name: dict[str, list[tuple[str, ...]]] = {}
        for image in scan(self.root).pictures:
            self._by_name.setdefault(image.name, []).append(image.relative_to(self.root).parts)
        self.claims = Claims()
        self._names: Counter[str] = Counter()

    def expect(self, names: Iterable[str]) -> None:
        """Note the names that one file will ask for: a base name that it has twice needs its folders."""
        self._names = Counter(path_parts(name)[-1] for name in {*names})

    def find(self, name: str, file: Path, split: str | None) -> str:
        """Return the picture's path relative to `root`, `name` itself where there is none.

        Raises InputError naming both where a name may mean two pictures.
        """
        wanted = path_parts(name)
        found = self._matching(wanted, file, split)
        if len(found) > 1:
            first, second = ("/".join(parts) for parts in found[:2])
            both = f"{first} or {second} in {self.root}"
            raise InputError(f"{file}: {name} may be {both}: write the folder into file_name")
        return "/".join(found[0] if found else wanted)

    def _matching(self, wanted: tuple[str, ...], file: Path, split: str | None) -> list[tuple[str, ...]]:
        candidates = self._by_name.get(wanted[-1], [])
        # the pictures that share most of the wanted path, counted from its end
        depth = max((_common_tail(parts, wanted) for parts in candidates), default=0)
        best = [parts for parts in candidates if _common_tail(parts, wanted) == depth]
        if depth < len(wanted):  # its folder has another name here
            several = self._names[wanted[-1]] > 1
            best = [] if several else [parts for parts in best if not _name_other_splits(parts, wanted)]
        # of several: in the folder of the JSON file, then in one named like the file, then in one named like its split
        below = file.resolve().parent.parts[len(self.root.resolve().parts) :]
        words = {*re.split("[_.-]", file.stem.lower())}
        for fits in (
            lambda parts: below and parts[: len(below)] == below,
            lambda parts: words.intersection(part.lower() for part in parts[:-1]),
            lambda parts: split is not None and split in _splits_named(parts),
        ):
            narrowed = [parts for parts in best if fits(parts)]
            best = narrowed if len(best) > 1 and narrowed else best
        return best


def path_parts(name: str) -> tuple[str, ...]:
    """Return the folders and the name in a path as any system writes it."""
    parts = name.strip().replace("\\", "/").split("/")
    return tuple(part for part in parts if part not in ("", ".", ".."))


def _common_tail(parts: tuple[str, ...], wanted: tuple[str, ...]) -> int:
    """Return how many of the last parts of two paths are equal."""
    pairs = list(zip(reversed(parts), reversed(wanted), strict=False))
    return next((i for i, (first, second) in enumerate(pairs) if first != second), len(pairs))


def _splits_named(parts: tuple[str, ...]) -> set[str]:
    """Return the splits that folders of a path are named after, a year at the end left aside."""
    words = (re.sub(r"\d+$", "", part.lower()) for part in parts[:-1])
    return {SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES}


def _name_other_splits(parts: tuple[str, ...], wanted: tuple[str, ...]) -> bool:
    """Say whether two paths name different splits."""
    ours, theirs = _splits_named(parts), _splits_named(wanted)
    return bool(ours and theirs and not ours & theirs)
