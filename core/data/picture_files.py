"""Find the picture files of a folder by their suffix, and describe what was left out."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from core.errors import InputError

# fmt: off
IMAGE_SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".mpo", ".png", ".apng", ".webp", ".avif", ".gif", ".tif", ".tiff",
    ".bmp", ".dib", ".jp2", ".j2k", ".jpx", ".jpf", ".ppm", ".pgm", ".pbm", ".pnm", ".pam", ".pxm", ".ras", ".sr",
    ".hdr", ".pic",
})
# fmt: on
"""Files that OpenCV decodes to 8-bit color; not .pfm, whose values have no range, and .exr, which the wheel lacks."""
SYSTEM_FOLDERS = frozenset({"__MACOSX", "@eaDir"})
"""Folders with copies and thumbnails, by macOS's archiver and Synology's file server."""
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
WHY_SUFFIX, WHY_HIDDEN, WHY_BROKEN = "no picture by its suffix", "hidden", "a broken link"
WHY_AGAIN = "a link to a folder above, or to one that was read already"
WHY_CLOSED, WHY_SPECIAL = "a folder that cannot be read", "no regular file"


@dataclass(frozen=True)
class Scan:
    """The pictures in a folder and the folders below it, sorted, and what was left out."""

    pictures: list[Path]
    left_out: dict[str, list[Path]]
    """{reason: files and folders}"""


def scan(folder: Path, *, deep: bool = True) -> Scan:
    """Find the pictures in a folder by their suffix, and in the folders below it if `deep`.

    Links are followed. Each folder is read once, and no folder above `folder`, because the other classes are there.
    """
    pictures: list[Path] = []
    left_out: dict[str, list[Path]] = defaultdict(list)
    # by device and inode, since links give one folder several paths
    above = {*folder.absolute().parents, *folder.resolve().parents}
    seen = {(state.st_dev, state.st_ino) for state in map(Path.stat, above)}

    def refuse(error: OSError) -> None:
        left_out[WHY_CLOSED].append(Path(error.filename))

    starts = deque([folder])  # linked folders come after the real ones, so that a file is found where it stands
    while starts:
        for place, folders, files in os.walk(starts.popleft(), onerror=refuse):
            # a link to a folder above would never end
            here = Path(place)
            state = here.stat()
            if (state.st_dev, state.st_ino) in seen:
                left_out[WHY_AGAIN].append(here)
                folders.clear()
                continue
            seen.add((state.st_dev, state.st_ino))
            left_out[WHY_HIDDEN] += [here / name for name in folders if is_hidden(name)]
            # in place: os.walk goes on into what is left in the list
            folders[:] = sorted(name for name in folders if not is_hidden(name)) if deep else []
            starts += [here / name for name in folders if (here / name).is_symlink()]
            for file in (here / name for name in files):
                if reason := _no_picture_reason(file):
                    left_out[reason].append(file)
                else:
                    pictures.append(file)
    return Scan(sorted(pictures), {reason: sorted(paths) for reason, paths in left_out.items() if paths})


def is_hidden(name: str) -> bool:
    """Return whether a file or folder is hidden, or one of SYSTEM_FOLDERS."""
    return name.startswith(".") or name in SYSTEM_FOLDERS


def visible_folders(folder: Path) -> list[Path]:
    """Return the folders in a folder except hidden ones, sorted."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not is_hidden(path.name))


def split_folders(root: Path) -> list[Path]:
    """Return the folders of the splits, by their names.

    Beside folders with other names, only one that holds folders is a split: a `train` with pictures is a class there.
    """
    folders = visible_folders(root)
    named = [folder for folder in folders if folder.name.lower() in SPLIT_NAMES]
    return named if len(named) == len(folders) else [folder for folder in named if visible_folders(folder)]


def _no_picture_reason(file: Path) -> str | None:
    if is_hidden(file.name):
        return WHY_HIDDEN
    if file.suffix.lower() not in IMAGE_SUFFIXES:
        return WHY_SUFFIX
    if file.is_file():
        return None
    return WHY_SPECIAL if file.exists() else WHY_BROKEN


def describe_left_out(scans: Iterable[Scan], root: Path) -> list[str]:
    """Return a line for each reason why files below `root` were left out, with their number and the first of them."""
    left_out: dict[str, list[Path]] = defaultdict(list)
    for scanned in scans:
        for reason, paths in scanned.left_out.items():
            left_out[reason] += paths
    lines = []
    if paths := left_out.pop(WHY_SUFFIX, []):
        suffixes = Counter(path.suffix.lower() or "none" for path in paths)
        which = ", ".join(f"{suffix} {n}" for suffix, n in suffixes.most_common(8))
        kind = "file that is no picture by its" if len(paths) == 1 else "files that are no pictures by their"
        lines.append(f"left out: {len(paths)} {kind} suffix ({which})")
    return lines + [f"left out: {describe_paths(reason, paths, root)}" for reason, paths in sorted(left_out.items())]


def describe_partly_read(files: Iterable[Path], root: Path) -> list[str]:
    """Return a line about files that hold several pictures, of which the first is read; nothing without such files."""
    found = list(files)
    what = "several pictures in one file, the first is taken"
    return [f"read in part: {describe_paths(what, found, root)}"] if found else []


def describe_paths(reason: str, paths: list[Path], root: Path) -> str:
    """Return a line with the number of paths, the first three of them, and the reason."""
    names = [printable(os.path.relpath(path, root)) for path in paths[:3]]
    return f"{len(paths)} ({', '.join(names)}{', ..' if len(paths) > 3 else ''}): {reason}"


def check_utf8(path: str | Path) -> None:
    """Raise InputError for a path that is not UTF-8: most libraries that open files by name take text alone."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise InputError(f"{printable(str(path))} is not named in UTF-8: rename it") from None


def printable(name: str) -> str:
    """Return a file's name as one line of valid text, with escapes for control characters and what is not UTF-8."""
    # Linux names are bytes: Python holds those that are no UTF-8 as surrogates, which cannot be printed
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", lambda c: c[0].encode("unicode_escape").decode(), text)
