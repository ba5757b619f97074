"""Helpers for annotation files: text in any Unicode encoding, numbers as tools write them, clashes of names.

An annotation that is no box is left out alone, with its place and the reason; it never ends the import.
"""

from __future__ import annotations

import codecs
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from core.data.picture_files import is_hidden
from core.errors import InputError
from training.data.detections.annotated_boxes import AnnotatedBox, SkippedAnnotation
from training.data.source_files import image_size

T = TypeVar("T")
Labels = tuple[tuple[AnnotatedBox, ...], tuple[SkippedAnnotation, ...]]
"""The boxes of a picture, and its annotations that are none."""

BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def files_below(root: Path, suffix: str, depth: int) -> Iterator[Path]:
    """Yield the files with a suffix in a folder and down to `depth` folders below it, except hidden ones."""
    for folder, folders, files in os.walk(root):
        deep = len(Path(folder).relative_to(root).parts) >= depth
        folders[:] = [] if deep else [name for name in folders if not is_hidden(name)]
        for name in files:
            if name.lower().endswith(suffix) and not is_hidden(name):
                yield Path(folder, name)


def source_of(image: Path, root: Path) -> str:
    """Return a picture's path from the root of its data set, as `AnnotatedPicture.source` has it."""
    return os.path.relpath(image, root).replace(os.sep, "/")


def boxes_of(annotations: Iterable[tuple[str, T]], parse_box: Callable[[T], AnnotatedBox]) -> Labels:
    """Return the boxes of annotations, given as (place, annotation); a ValueError of `parse_box` says: malformed."""
    boxes, skipped = [], []
    for where, annotation in annotations:
        try:
            boxes.append(parse_box(annotation))
        except ValueError as error:
            skipped.append(SkippedAnnotation("malformed", f"{where} ({error})"))
    return tuple(boxes), tuple(skipped)


def read_label_lines(file: Path) -> list[tuple[str, list[str]]]:
    """Return (place, words) of each line that is not empty. Raises ValueError or OSError."""
    lines = enumerate(read_text(file).splitlines(), 1)
    return [(f"{file}, line {number}", words) for number, line in lines if (words := line.split())]


def unreadable(file: Path, error: Exception) -> Labels:
    """Return the labels of a file that cannot be read: no box, and one malformed annotation with the error."""
    return (), (SkippedAnnotation("malformed", f"{file} ({error})"),)


def resolve_size(width: Any, height: Any, image: Path) -> tuple[int, int]:
    """Return the size that an annotation gives, else the picture's own, else 0, 0."""
    # reading the header of every picture takes longer than trusting the annotation; decoding compares the two
    sides = _side(width), _side(height)
    return sides if all(sides) else image_size(image) or (0, 0)


def _side(value: Any) -> int:
    try:
        return max(0, whole_of(value))
    except ValueError:
        return 0


def read_text(file: Path) -> str:
    """Read a text file: UTF-8, or what its byte order mark says. Raises ValueError or OSError."""
    # without a mark it is UTF-8: a guess between other encodings would turn names of classes into other names
    data = file.read_bytes()
    encoding = next((name for mark, name in BYTE_ORDER_MARKS if data.startswith(mark)), "utf-8")
    return data.decode(encoding)


def read_named_text(file: Path) -> str:
    """Read a text file without which the import cannot go on. Raises InputError naming it."""
    try:
        return read_text(file)
    except (OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read as text ({error}): save it as UTF-8") from None


LARGEST = 1e15
"""The largest number in an annotation: the sum of a corner and a side has to be a whole number that numpy holds."""


def number_of(value: Any) -> float:
    """Return a finite number, given as a number or as a string. Raises ValueError."""
    # float() would read 1_0 as 10, and digits of any script
    plain = not isinstance(value, str) or (value.isascii() and "_" not in value)
    if isinstance(value, bool) or not isinstance(value, (int, float, str)) or not plain:
        raise ValueError(f"{value!r:.40} is no number")
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise ValueError(f"{value!r:.40} is no number") from None
    if not math.isfinite(number):
        raise ValueError(f"{value!r:.40} is not finite")
    if abs(number) > LARGEST:
        raise ValueError(f"{value!r:.40} is too large")
    return number


def whole_of(value: Any) -> int:
    """Return a whole number, given as 7, 7.0 or a string. Raises ValueError."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value  # a float would round ids over 2**53
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?[0-9]{1,4000}\s*", value):
        return int(value)
    number = number_of(value)
    if number != int(number):
        raise ValueError(f"{value!r} is no whole number")
    return int(number)


class Claims:
    """Refuses two claims of one thing: two entries for one picture, or two pictures with one label file."""

    def __init__(self) -> None:
        self._by: dict[str, str] = {}

    def claim(self, thing: str, by: str) -> None:
        """Note that `by` claims `thing`. Raises InputError naming both when another did before."""
        other = self._by.setdefault(thing, by)
        if other != by:
            raise InputError(f"{other} and {by} are both of {thing}: remove or rename one")
