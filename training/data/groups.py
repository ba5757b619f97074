"""The group of each source file. A group, such as the frames of one video, never spans two splits."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

from core.errors import InputError
from training.data.listing import PackOptions


def group_finder(root: Path, options: PackOptions) -> Callable[[str], str]:
    """Return the function that names a source file's group: by the pattern, by the CSV, or by the file itself."""
    if options.group is not None:
        return partial(_group_by_pattern, re.compile(options.group), root)
    if options.group_csv is not None:
        return partial(_group_by_table, _read_group_csv(options.group_csv), root, options.group_csv)
    return str


def _group_by_pattern(pattern: re.Pattern[str], root: Path, name: str) -> str:
    match = pattern.search(name.rsplit("/", 1)[-1])  # not in the folders: those are the split and the class
    if match is None:
        raise InputError(
            f"{root / name}: its file name does not match the group pattern '{pattern.pattern}': give a pattern that "
            "matches every file name, or name the groups with --group-csv"
        )
    group = match.group(1) if pattern.groups else match.group(0)
    if group is None:
        raise InputError(
            f"{root / name}: its file name matches the group pattern '{pattern.pattern}', but not its first group: "
            "give a pattern whose first group every file name has"
        )
    return str(group)


def _group_by_table(table: dict[str, str], root: Path, file: Path, name: str) -> str:
    # by the path relative to the source, or by the file name alone
    group = table.get(name) or table.get(name.rsplit("/", 1)[-1])
    if not group:
        raise InputError(f"{file} has no group for {root / name}: add a line for it")
    return group


def _read_group_csv(file: Path) -> dict[str, str]:
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            if not {"file", "group"} <= set(reader.fieldnames or ()):
                raise InputError(f"{file} must have the columns file,group; it has {reader.fieldnames}")
            return {str(row["file"]).replace("\\", "/"): str(row["group"] or "") for row in reader}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{file} cannot be read as CSV ({error})") from None
