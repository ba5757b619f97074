"""Finds the V4L2 device that a source names, and queries a /dev/video node without streaming from it."""

from __future__ import annotations

import fcntl
import os
import struct
from dataclasses import dataclass
from pathlib import Path

# Source: linux/videodev2.h
QUERYCAP, ENUM_FMT = 0x80685600, 0xC0405602
CAPABILITY = struct.Struct("=16s32s32sIII12x")
FORMAT = struct.Struct("=III32sII12x")
CAPTURE, CAPTURE_MPLANE, DEVICE_CAPS = 0x1, 0x1000, 0x80000000
TYPES = {CAPTURE: 1, CAPTURE_MPLANE: 9}
"""The buffer type whose formats are listed, for each capability: a node takes pictures in one plane or in several."""


@dataclass(frozen=True)
class VideoNode:
    """One /dev/video node."""

    card: str
    driver: str
    formats: tuple[str, ...]
    """Four-letter codes, such as MJPG; empty where it gives no pictures."""


def device_of(uri: str) -> Path | None:
    """Return the device that a source names: a number, a path in /dev, or a link to one; None for anything else.

    A link, such as /dev/v4l/by-id/.., is returned as it is: after a replug it points to another number. It need not
    point to something that is there.
    """
    if uri.isdigit():
        return Path(f"/dev/video{uri}")
    path = Path(uri)
    named = uri.startswith(("/dev/video", "/dev/v4l/")) or os.path.realpath(path).startswith("/dev/video")
    return path if named or path.is_char_device() else None


def query_node(device: Path) -> VideoNode:
    """Ask a node what it is. Raises OSError when it cannot be opened or is no V4L2 device."""
    descriptor = os.open(device, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        answer = fcntl.ioctl(descriptor, QUERYCAP, bytes(CAPABILITY.size))
        driver, card, _, _, of_device, of_node = CAPABILITY.unpack(answer)
        # one device may have several nodes, of which only some give pictures; an old driver tells of the device alone
        capabilities = of_node if of_device & DEVICE_CAPS else of_device
        buffer_type = next((TYPES[bit] for bit in TYPES if capabilities & bit), None)
        formats = () if buffer_type is None else tuple(_formats(descriptor, buffer_type))
        return VideoNode(_text(card), _text(driver), formats)
    finally:
        os.close(descriptor)


def _formats(descriptor: int, buffer_type: int) -> list[str]:
    found: list[str] = []
    while len(found) < 64:  # a driver that never ends its list is cut off here
        try:
            answer = fcntl.ioctl(descriptor, ENUM_FMT, FORMAT.pack(len(found), buffer_type, 0, b"", 0, 0))
        except OSError:  # EINVAL: there is no format of this number
            return found
        code = FORMAT.unpack(answer)[4]
        found.append(struct.pack("=I", code & 0x7FFFFFFF).decode("ascii", "replace").strip())
    return found


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("utf-8", "replace")
