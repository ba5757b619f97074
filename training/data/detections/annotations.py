"""What annotation files have in common: text in any Unicode encoding, numbers as tools write them, name clashes."""

from __future__ import annotations

import codecs
import math
import re
from pathlib import Path
from typing import Any

from core.errors import InputError

BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_text(file: Path) -> str:
    """Read a text file: UTF-8, or what its byte order mark says. Raises ValueError or OSError."""
    data = file.read_bytes()
    encoding = next((name for mark, name in BYTE_ORDER_MARKS if data.startswith(mark)), "utf-8")
    return data.decode(encoding)


def read_named_text(file: Path) -> str:
    """Read a text file that the whole import hangs on. Raises InputError naming it."""
    try:
        return read_text(file)
    except (OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read as text ({error}): save it as UTF-8") from None


def number_of(value: Any) -> float:
    """Return a finite number that stands as one or as a string. Raises ValueError."""
    # float() reads 1_0 as 10, and the digits of any script
    plain = not isinstance(value, str) or (value.isascii() and "_" not in value)
    if isinstance(value, bool) or not isinstance(value, (int, float, str)) or not plain:
        raise ValueError(f"{value!r} is no number")
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise ValueError(f"{value!r} is no number") from None
    if not math.isfinite(number):
        raise ValueError(f"{value!r} is not finite")
    return number


def whole_of(value: Any) -> int:
    """Return a whole number that stands as one, as 7.0 or as a string. Raises ValueError."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value  # a float would round ids over 2**53
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?[0-9]{1,4000}\s*", value):
        return int(value)
    number = number_of(value)
    if number != int(number):
        raise ValueError(f"{value!r} is no whole number")
    return int(number)


class Claims:
    """Refuses that two things claim a third: two entries one picture, two pictures one label file."""

    def __init__(self) -> None:
        self._by: dict[str, str] = {}

    def claim(self, thing: str, by: str) -> None:
        """Note that `by` claims `thing`. Raises InputError naming both when another did before."""
        other = self._by.setdefault(thing, by)
        if other != by:
            raise InputError(f"{other} and {by} are both of {thing}: remove or rename one")
