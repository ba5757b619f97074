"""Read a source's pictures: files, frames of videos, frames of recordings; or a file's size without decoding it."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from core.data.picture_reader import read_picture
from core.data.recording import read_decision
from core.errors import InputError
from core.geometry.frame import Bytes
from core.geometry.preprocess import decode

FRAME = re.compile(r"(.+\.(?:mp4|avi|mkv|mov|m4v|webm|mpg|mpeg|ts|jsonl))#(\d+)", re.IGNORECASE)
"""A frame of a video, by its number, or of a recording, by its line in a segment: no picture has such a suffix."""


def load_file(root: str, name: str) -> Bytes | str:
    """Return a picture, or a frame of a video or recording, as uint8 (H, W, 3) BGR, or the reason why there is none."""
    if frame := FRAME.fullmatch(name):
        read = _read_recorded_frame if frame[1].endswith(".jsonl") else _read_video_frame
        return read(Path(root, frame[1]), int(frame[2]))
    return read_picture(Path(root, name))


def file_of(name: str) -> str:
    """Return the file that a source stands in: the video of a frame, or the segment of a recording."""
    frame = FRAME.fullmatch(name)
    return frame[1] if frame else name


def recorded_frame_source(video: str, number: int) -> str:
    """Return the source of a frame of a video. Raises InputError for a file without a video's suffix."""
    name = f"{video}#{number}"
    if not FRAME.fullmatch(name):
        raise InputError(
            f"{video} is no video by its suffix: give .mp4, .avi, .mkv, .mov, .webm, or a folder of pictures"
        )
    return name


def video_frames(video: Path) -> tuple[int, float]:
    """Return the number of frames of a video and its rate. Raises InputError when it cannot be opened."""
    capture = cv2.VideoCapture(str(video))
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    fps = capture.get(cv2.CAP_PROP_FPS)
    capture.release()
    if count < 1:
        raise InputError(f"{video} cannot be opened as a video: give one that FFmpeg reads, or a folder of pictures")
    return count, fps if fps > 0 else 30.0


@lru_cache(maxsize=1)  # rows come sorted by source, so that one video is open at a time
def _open_video(video: Path) -> cv2.VideoCapture:
    return cv2.VideoCapture(str(video))


def _read_video_frame(video: Path, number: int) -> Bytes | str:
    capture = _open_video(video)
    if int(capture.get(cv2.CAP_PROP_POS_FRAMES)) != number:  # seeking decodes from the last key frame: slow
        capture.set(cv2.CAP_PROP_POS_FRAMES, number)
    read, frame = capture.read()
    return np.asarray(frame, np.uint8) if read else f"frame {number} cannot be read"


def _read_recorded_frame(segment: Path, line: int) -> Bytes | str:
    try:
        decision = read_decision(segment, line)
    except OSError as error:
        return str(error)
    pixels = decode(decision.picture) if decision and decision.picture else None
    return f"line {line} has no whole picture" if pixels is None else pixels


def image_size(path: Path) -> tuple[int, int] | None:
    """Return an image's width and height as OpenCV decodes it, from its header alone; None when it is no image."""
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None  # the limit is against decompression bombs, and nothing is decoded here
    try:
        with Image.open(path) as image:
            # Pillow has turned a TIFF's size already; OpenCV turns no AVIF, and knows no orientation in XMP.
            exif = image.info.get("exif") if image.format in ("JPEG", "MPO", "PNG", "WEBP") else None
            return image.size[::-1] if exif and _is_turned(exif) else image.size
    except (OSError, ValueError, SyntaxError):
        return None


def _is_turned(exif: bytes) -> bool:
    """Tell whether an EXIF block's orientation swaps width and height."""
    from PIL import Image

    block = Image.Exif()
    block.load(exif)
    return block.get(0x0112) in (5, 6, 7, 8)  # the tag Orientation; 5 to 8 are turned by 90 degrees
