"""Merge and drop classes by a CSV `class,becomes`; an empty second column drops the class."""

from __future__ import annotations

import csv
import difflib
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from core.errors import InputError

SHIPPED = Path(__file__).parent / "classes"
WILDCARD = "*"
"""In the first column every class without a line of its own; in the second one the name that the class has."""


def normalize_name(name: str) -> str:
    """Return a class name without case, spaces, hyphens and other signs: `Two-Wheeler` and `two_wheeler` are equal.

    Letters, marks and digits of every script stay; a name that has none, such as an emoji, stays as it is.
    """
    # normalized twice, because case folding may leave a text that is not normal again
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    kept = [letter for letter in folded if unicodedata.category(letter)[0] in "LMN" or letter == WILDCARD]
    return "".join(kept) or folded.strip()


def similar_name_warnings(classes: Iterable[str]) -> list[str]:
    """Return a warning for classes that differ only by case, spaces or signs, of which one may be misspelled."""
    by_plain: dict[str, list[str]] = {}
    for name in classes:
        by_plain.setdefault(normalize_name(name), []).append(name)
    return [
        f"the classes {', '.join(map(repr, names))} differ by case, spaces or signs only: "
        f"merge them with a class map (--classes), or rename them"
        for names in by_plain.values()
        if len(names) > 1
    ]


@dataclass(frozen=True)
class ClassMap:
    """A mapping of a source's classes to those of the pack. Without a file every class keeps its name."""

    file: Path | None
    table: dict[str, str]

    def check_names(self, names: Iterable[str]) -> None:
        """Raise InputError naming all the classes that have no line."""
        if self.file is None or WILDCARD in self.table:
            return
        missing = [name for name in dict.fromkeys(names) if normalize_name(name) not in self.table]
        if missing:
            told = ", ".join(map(repr, missing))
            kind = "class" if len(missing) == 1 else "classes"
            hint = f"add one for each, `{missing[0]},` to drop it"
            raise InputError(f"{self.file} has no line for the {kind} {told}: {hint}")

    def becomes(self, name: str) -> str | None:
        """Return the class that `name` becomes, or None when it is dropped. Raises InputError when it has no line."""
        if self.file is None:
            return name
        target = self.table.get(normalize_name(name), self.table.get(WILDCARD))
        if target is None:
            self.check_names([name])
        return name if target == WILDCARD else target or None


def read_class_map(given: str | None) -> ClassMap:
    """Read a class map: a CSV file, or the name of a shipped one. Raises InputError naming the file and line."""
    if given is None:
        return ClassMap(None, {})
    file = Path(given)
    if not file.suffix and not file.exists():  # a name without a suffix is one of the shipped maps
        shipped = sorted(p.stem for p in SHIPPED.glob("*.csv"))
        if given not in shipped:
            near = difflib.get_close_matches(given, shipped, n=1, cutoff=0.0)
            raise InputError(f"there is no class map {given!r}: give a CSV file, or did you mean {near[0]}?")
        file = SHIPPED / f"{given}.csv"
    table: dict[str, str] = {}
    try:
        # utf-8-sig: spreadsheets write a byte order mark, which would become a part of the first column's name
        with file.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            if reader.fieldnames is None or [*reader.fieldnames] != ["class", "becomes"]:
                raise InputError(f"{file} must have the columns class,becomes; it has {reader.fieldnames}")
            for row in reader:
                if None in row or row["becomes"] is None or not normalize_name(row["class"]):
                    raise InputError(f"{file}, line {reader.line_num}, is not of the form class,becomes")
                becomes = row["becomes"].strip()
                if table.setdefault(normalize_name(row["class"]), becomes) != becomes:
                    raise InputError(f"{file}, line {reader.line_num}: {row['class']} becomes two different classes")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{file} cannot be read as CSV ({error})") from None
    return ClassMap(file, table)
