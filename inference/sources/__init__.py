"""Camera sources: one file each, found by the scheme of the URI. A live source yields only the newest frame.

The module of a source has `open_source(uri) -> Source` and, where it is chosen by scheme, `SCHEMES`, those it reads. A
live source is a `LiveSource` over a `Reader` (inference/capture/live.py). The scheme of a recorded source also goes
into `REREADABLE` of inference/runner/supervisor.py. A scheme that a local path or a number follows goes into `LOCAL` of
core/redact.py, or the log would hide what follows as it hides the path of a network address.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import cv2

from core.data.picture_reader import is_still
from core.errors import InputError
from core.plugins import load_plugin, load_usable, names_in
from core.redact import public_uri
from inference.capture.base import Source
from inference.capture.v4l2 import device_of

# OpenCV and FFmpeg write to stderr by themselves; our errors carry what they say
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

PARTS = ("open_source",)
"""The parts that the module of each source has."""
GRAMMAR = (
    "0, /dev/video0, csi://0, rtsp://.., http://.. or another stream, a video file, a folder of images, replay://DIR, "
    "or synthetic://"
)


def schemes() -> dict[str, str]:
    """Return all schemes, each with the file name of the source that reads it."""
    found: dict[str, str] = {}
    for name, module in load_usable(__name__, names_in(__path__), PARTS).items():
        found |= dict.fromkeys(getattr(module, "SCHEMES", ()), name)
    return found


def kind_of(uri: str) -> str:
    """Return the file name of the source that reads `uri`. Raises InputError when none does."""
    if not uri:  # Path("") is the current folder
        raise InputError(f"the source is empty: give {GRAMMAR}")
    # a scheme is case-insensitive by RFC 3986
    if "://" in uri:
        scheme = uri.split("://", 1)[0].lower()
        known = schemes()
        if scheme not in known:
            near = difflib.get_close_matches(scheme, known, n=1, cutoff=0.6)
            meant = f": did you mean {near[0]}://" if near else f": give {GRAMMAR}"
            raise InputError(f"there is no source {scheme}://{meant}")
        return known[scheme]
    if device_of(uri) is not None:
        return "camera"
    return "folder" if Path(uri).is_dir() or is_still(uri) else "video"


def open_source(uri: str) -> Source:
    """Open a source. Raises InputError naming the URI and the hint."""
    opened: Source = load_plugin(__name__, kind_of(uri), PARTS).open_source(uri)
    return opened


def parameters(uri: str, defaults: Mapping[str, str | float | int]) -> dict[str, str | float | int]:
    """Return `uri`'s query over `defaults`, each of its default's type. Raises InputError naming the parameter."""
    parts = urlsplit(uri)
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    given = dict(pairs)
    if parts.netloc or parts.path or len(given) < len(pairs):
        raise InputError(f"{public_uri(uri)}: give each parameter once, after a ?: {', '.join(defaults)}")
    if unknown := sorted(set(given) - set(defaults)):
        raise InputError(
            f"{public_uri(uri)} has the unknown parameter {unknown[0]!r}: choose from {', '.join(defaults)}"
        )
    values = dict(defaults)
    for name, text in given.items():
        try:
            values[name] = type(defaults[name])(text)
        except ValueError:
            kind = {int: "a whole number", float: "a number"}[type(defaults[name])]  # any text is a str
            raise InputError(f"{public_uri(uri)}: {name} is {text!r}, give {kind}") from None
    return values
