"""Read picture files strictly: a damaged picture gives a reason and no pixels.

OpenCV alone would fill what is missing with gray. Damage is found by the length and the end marker, by the checksums
of PNG, and by what libjpeg, libtiff and other decoders report. Damage that keeps the length cannot be found in formats
without a checksum: WebP, JPEG 2000, BMP, PNM, Sun raster, and TIFF without compression. libjpeg finds every JPEG that
is cut short, and most with a gap: 131 of 136 with 10% of their bytes zeroed, 118 with 2%.
"""

from __future__ import annotations

import os
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import cv2
import numpy as np

from core.data.stderr_capture import StderrCapture
from core.geometry.frame import Bytes

ONE_PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".bmp", ".dib"})
"""Suffixes of files that always hold one picture."""
PNG, JPEG_START, JPEG_END = b"\x89PNG\r\n\x1a\n", b"\xff\xd8", b"\xff\xd9"
DECODER_LINE = re.compile(r"\[ ?(WARN|ERROR|INFO):|Corrupt JPEG data|Premature end of JPEG|libpng |Inconsistent prog")
DAMAGE = re.compile(r"(Corrupt JPEG data|Premature end of JPEG|Inconsistent progression)[^\n]*")
EXTRANEOUS = re.compile(r"Corrupt JPEG data: (\d+) extraneous bytes before marker 0xd9")


def opencv_path(path: str | Path) -> str:
    """Return a path for OpenCV: as bytes, for OpenCV 5 crashes at a str that is not valid Unicode."""
    return cast(str, os.fsencode(path))


def is_still(path: str) -> bool:
    """Return whether a file is one picture by its content. A GIF may be a film, which FFmpeg reads too."""
    if not Path(path).is_file() or not cv2.haveImageReader(opencv_path(path)):
        return False
    with Path(path).open("rb") as stream:
        return stream.read(3) != b"GIF"


def holds_several_pictures(file: Path) -> bool:
    """Return whether a file holds more than one picture (an animation, TIFF pages); it takes 0.1 ms."""
    return file.suffix.lower() not in ONE_PICTURE_SUFFIXES and cv2.imcount(opencv_path(file)) > 1


def read_picture(file: Path) -> Bytes | str:
    """Return a picture file as uint8 (H, W, 3) BGR, EXIF orientation applied, or the reason why there is none."""
    try:
        data = file.read_bytes()
    except OSError as error:
        return f"unreadable: {os.strerror(error.errno or 0)}"
    except ValueError as error:  # a name with a null character
        return f"unreadable: {error}"
    if damage := damage_of(data):
        return damage
    frame, said, error_text = _decode(data)
    if "CV_IO_MAX_IMAGE" in error_text:
        size = header_size(data)
        return (
            "too large" + (f": {size[0]}x{size[1]} px" if size else "") + ", OpenCV reads at most 1,073,741,824 pixels"
        )
    if "Insufficient memory" in error_text or "Failed to allocate" in error_text:
        return "too large for the memory"
    if frame is None:
        return "unreadable: not an image, or not a whole one"
    return reported_damage(data, said) or _depth_unused(data, frame) or frame


_listen = StderrCapture(DECODER_LINE)


def _decode(data: bytes) -> tuple[Bytes | None, str, str]:
    """Return the pixels or None, what the decoder wrote to stderr, and the text of OpenCV's error.

    libjpeg and libtiff report damage only on stderr. Reading it takes about 10 us, and decoding 100 or more.
    """
    frame, problem = None, ""
    # damage comes as a warning, which OPENCV_LOG_LEVEL may hide; the level is the process's, so it is put back
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_WARNING)
    with _listen() as said:
        try:
            frame = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        except cv2.error as error:
            problem = str(error)
    cv2.utils.logging.setLogLevel(level)
    return None if frame is None else np.asarray(frame, np.uint8), "".join(said), problem


def _depth_unused(data: bytes, frame: Bytes) -> str | None:
    """Return the reason why a file of 16 bits cannot be used, or None.

    A camera of 12 bits may leave the upper 4 empty. OpenCV keeps the upper 8, which are then nearly black.
    """
    if data.startswith(JPEG_START) or frame.max() > 16:  # 12 bits of 16 leave 15; a TIFF's are rounded up
        return None
    # decoded again, which only a nearly black picture costs
    deep = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_ANYDEPTH | cv2.IMREAD_COLOR)
    top = 0 if deep is None or deep.dtype != np.uint16 else int(deep.max())
    reason = f"nearly black: its brightest value is {top} of 65535 (12 bits in a file of 16), save it with 8 bits"
    return reason if 0 < top < 4096 else None


def reported_damage(data: bytes, said: str) -> str | None:
    """Return the damage in what a decoder said of a picture that it decoded, or None."""
    if (extra := EXTRANEOUS.search(said)) and _is_padding(data, int(extra[1])):
        return None
    if found := DAMAGE.search(said):
        return f"damaged JPEG: {found[0].removeprefix('Corrupt JPEG data: ')}"
    if "[ERROR" in said:
        last = said.rsplit("[ERROR", 1)[1].split("\n", 1)[0]
        return f"damaged: {' '.join(last.split()[3:])[:120]}"
    return None


def _is_padding(data: bytes, n: int) -> bool:
    """Return whether the n bytes before the end marker all have one value, as the padding of some cameras has."""
    end = data.rfind(JPEG_END)
    return len(set(data[max(end - n, 0) : end])) <= 1


def damage_of(data: bytes) -> str | None:
    """Return the damage in a picture file that its bytes show before decoding, or None."""
    if not data:
        return "unreadable: empty file"
    if data.startswith(JPEG_START):
        return None if _jpeg_ends(data) else "truncated JPEG"
    if data.startswith(PNG):
        return _png_damage(data)
    # the headers of WebP and BMP hold the length of the file
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "truncated WebP" if len(data) < 8 + int.from_bytes(data[4:8], "little") else None
    if data.startswith(b"BM") and len(data) >= 6:
        return "truncated BMP" if len(data) < int.from_bytes(data[2:6], "little") else None
    if data[4:12] == b"ftypavif" and _is_turned_avif(data):
        return "an AVIF that is to be turned or mirrored, which OpenCV does not do: save it upright"
    return None


def _is_turned_avif(data: bytes) -> bool:
    """Return whether the metadata of an AVIF asks for a rotation or a mirror image; `irot` of 0 asks for none."""
    head = data[: data.find(b"mdat")]  # the boxes before the pixels
    turn = head.find(b"irot")
    return b"imir" in head or (turn >= 0 and head[turn + 4 : turn + 5] not in (b"", b"\0"))


def header_size(data: bytes) -> tuple[int, int] | None:
    """Return the width and height in the header of a PNG or a JPEG, before any orientation; None for another file."""
    if data.startswith(PNG):
        return struct.unpack_from(">II", data, 16) if len(data) >= 24 else None
    if not data.startswith(JPEG_START):
        return None
    for marker, offset in _jpeg_segments(data):
        # a start of frame (SOF); C4, C8 and CC lie among them and are tables and extensions
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and offset + 9 <= len(data):
            height, width = struct.unpack_from(">HH", data, offset + 5)
            return width, height
    return None


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield (marker, offset) up to the first scan."""
    offset = 2
    while offset + 4 <= len(data) and data[offset] == 0xFF:
        marker = data[offset + 1]
        if marker == 0xFF:  # padding
            offset += 1
            continue
        yield marker, offset
        if marker == 0xDA:
            return
        # TEM and the restart markers have no length
        alone = marker == 0x01 or 0xD0 <= marker <= 0xD7
        offset += 2 if alone else 2 + int.from_bytes(data[offset + 2 : offset + 4], "big")


def _jpeg_ends(data: bytes) -> bool:
    """Return whether an end marker follows the first scan; an EXIF thumbnail before it has an end marker of its own."""
    # in what follows the start of a scan, 0xFF of the image is always escaped
    return any(marker == 0xDA and data.rfind(JPEG_END, offset) >= 0 for marker, offset in _jpeg_segments(data))


def _png_damage(data: bytes) -> str | None:
    """Check the checksum of every chunk up to the end chunk."""
    offset = 8  # after the signature; a chunk is length, kind, data, CRC-32 of kind and data
    while offset + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, offset)
        end = offset + 8 + length
        if end + 4 > len(data):
            break
        if zlib.crc32(data[offset + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            return "damaged PNG: a checksum differs"
        if kind == b"IEND":
            return None
        offset = end + 4
    return "truncated PNG"
