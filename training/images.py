"""Read an image file strictly: a damaged file is a reason, never grey pixels."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

from inference.preprocess import Bytes, decode

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
PNG = b"\x89PNG\r\n\x1a\n"


def load_file(root: str, name: str) -> Bytes | str:
    """Return the decoded frame of a file, uint8 (H, W, 3) BGR, or the reason why there is none."""
    try:
        data = Path(root, name).read_bytes()
    except OSError as error:
        return f"unreadable: {os.strerror(error.errno or 0)}"
    if damage := damage_of(data):
        return damage
    frame = decode(data)
    return "unreadable: not an image" if frame is None else frame


def image_size(path: Path) -> tuple[int, int] | None:
    """Return an image's width and height as OpenCV decodes it, from its header alone; None when it has none."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            # Pillow has turned a TIFF's size already; OpenCV turns no AVIF, and knows no orientation in XMP.
            exif = image.info.get("exif") if image.format in ("JPEG", "MPO", "PNG", "WEBP") else None
            return image.size[::-1] if exif and _is_turned(exif) else image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def _is_turned(exif: bytes) -> bool:
    """Say whether an EXIF block's orientation swaps the sides."""
    from PIL import Image

    block = Image.Exif()
    block.load(exif)
    return block.get(0x0112) in (5, 6, 7, 8)


def damage_of(data: bytes) -> str | None:
    """Say what is wrong with an image file's bytes, or None: OpenCV fills what is missing with grey."""
    if not data:
        return "unreadable: empty file"
    if data.startswith(b"\xff\xd8"):
        return None if _jpeg_ends(data) else "truncated JPEG"
    if data.startswith(PNG):
        return _png_damage(data)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "truncated WebP" if len(data) < 8 + int.from_bytes(data[4:8], "little") else None
    if data.startswith(b"BM") and len(data) >= 6:
        return "truncated BMP" if len(data) < int.from_bytes(data[2:6], "little") else None
    return None


def _jpeg_ends(data: bytes) -> bool:
    """Say whether the end marker stands after the first scan: an EXIF thumbnail before it has one of its own."""
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            return False
        marker = data[at + 1]
        if marker == 0xFF:  # padding
            at += 1
            continue
        if marker == 0xDA:  # start of scan: in what follows, 0xFF of the image is always escaped
            return data.rfind(b"\xff\xd9", at) >= 0
        at += 2 if marker == 0x01 or 0xD0 <= marker <= 0xD7 else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return False


def _png_damage(data: bytes) -> str | None:
    at = 8
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 8 + length
        if end + 4 > len(data):
            break
        if zlib.crc32(data[at + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            return "damaged PNG: a checksum differs"
        if kind == b"IEND":
            return None
        at = end + 4
    return "truncated PNG"
