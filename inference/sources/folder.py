"""A folder of pictures in name order, or one file. In `class/*.jpg` the class is the truth of the whole frame."""

from __future__ import annotations

import logging
from pathlib import Path
from time import monotonic_ns
from typing import Any

from core.data.picture_files import (
    IMAGE_SUFFIXES,
    Scan,
    describe_left_out,
    describe_partly_read,
    printable,
    scan,
    split_folders,
)
from core.data.picture_reader import holds_several_pictures, read_picture
from core.errors import InputError
from core.geometry.frame import Frame
from inference.capture.base import EndOfStream, Source
from inference.frame.regions import WHOLE_ZONE

log = logging.getLogger(__name__)


def open_source(uri: str) -> FolderSource:
    """Open a folder or a picture file. Raises InputError when a folder holds no image; logs what is left out."""
    root = Path(uri)
    if not root.is_dir():
        return FolderSource(root.parent, Scan([root], {}))
    found = scan(root)
    if not found.pictures:
        reason = "; ".join(describe_left_out([found], root)) or " ".join(sorted(IMAGE_SUFFIXES))
        raise InputError(f"{uri} holds no image ({reason}): give a folder that does")
    return FolderSource(root, found)


class FolderSource(Source):
    """Unrelated pictures. One that cannot be read is skipped, listed in `skipped`, and leaves a gap in the ids."""

    sequence = False
    fps = 1.0

    def __init__(self, root: Path, found: Scan) -> None:
        self.root = root
        self.skipped: dict[str, str] = {}
        """{name: why it cannot be read}"""
        self._multi_picture: list[Path] = []
        self.left_out = describe_left_out([found], root)
        # train/ and test/ are no classes: the class is the folder below them
        self._splits = {folder.name for folder in split_folders(root)}
        self._files = found.pictures
        self._next = 0
        for line in self.left_out:
            log.warning(f"{root}: {line}")

    def read(self, timeout_s: float) -> Frame | None:
        """Return the next whole image. Raises EndOfStream after the last, InputError when there was none at all."""
        while self._next < len(self._files):
            # counted before it is read: a picture that cannot be read leaves a gap, so ids do not depend on the reader
            index = self._next
            file = self._files[self._next]
            self._next += 1
            image = read_picture(file)
            name = printable(str(file.relative_to(self.root)))
            if isinstance(image, str):
                self.skipped[name] = image
                continue
            self._multi_picture += [file] if holds_several_pictures(file) else []
            label = self._class_of(file)
            truth = {WHOLE_ZONE: label} if label else {}
            # a second apart, as `fps` says; its age counts from here, when it was read
            return Frame(index, monotonic_ns(), image, index * 1_000_000_000, truth, name)
        self._end()
        raise EndOfStream

    def _class_of(self, file: Path) -> str | None:
        """Return the class folder: the first below the root, or below the split's folder; None without one."""
        folders = file.relative_to(self.root).parts[:-1]
        if folders and folders[0] in self._splits:
            folders = folders[1:]
        return printable(folders[0]) if folders else None

    def _end(self) -> None:
        """Log which pictures cannot be read. Raises InputError when that is all of them."""
        few = [f"{name} ({reason})" for name, reason in list(self.skipped.items())[:3]]
        if few and len(self.skipped) == len(self._files):
            raise InputError(f"{self.root}: none of {len(self._files)} images can be read, {few[0]}: copy them again")
        if few:
            more = ", .." if len(self.skipped) > len(few) else ""
            skipped = f"{len(self.skipped)} of {len(self._files)} pictures"
            log.warning(f"{self.root}: skipped: {skipped}: {', '.join(few)}{more}")
        for line in self._in_part():
            log.warning(f"{self.root}: {line}")

    def _in_part(self) -> list[str]:
        return describe_partly_read(self._multi_picture, self.root)

    def report(self) -> dict[str, Any]:
        """Return the number of pictures, what was left out, skipped, or read in part."""
        return {
            "pictures": len(self._files),
            "left_out": self.left_out,
            "skipped": self.skipped,
            "read_in_part": self._in_part(),
        }
