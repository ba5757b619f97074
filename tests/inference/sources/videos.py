"""Small videos and folders of images for the tests of sources and the runner."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np


def noise(index: int, height: int = 60, width: int = 80) -> np.ndarray:
    return np.random.default_rng(index).integers(0, 256, (height, width, 3), np.uint8)


def write_video(path: Path, frames: int = 12, fps: float = 25.0) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"), fps, (80, 60))
    assert writer.isOpened()
    for index in range(frames):
        writer.write(noise(index))
    writer.release()
    return path


def write_film(path: Path, times_ms: Sequence[float], *, codec: str = "libx264", turn: int = 0, **options: str) -> Path:
    """Write a film by PyAV, one frame at each time; the container is that of the file's suffix."""
    with av.open(path, "w", options=options) as film:
        stream = film.add_stream(codec, rate=30)
        stream.width, stream.height = 64, 48
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.time_base = Fraction(1, 90_000 if codec == "libx264" else 30)
        if turn:
            stream.set_display_rotation(turn)
        for index, at_ms in enumerate(times_ms):
            frame = av.VideoFrame.from_ndarray(noise(index, 48, 64), format="bgr24")
            frame.time_base = stream.codec_context.time_base
            frame.pts = round(at_ms / 1000 / frame.time_base)
            film.mux(stream.encode(frame))
        film.mux(stream.encode())
    return path


def cut(path: Path, part: float) -> Path:
    """Leave the first part of a file."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    return path


def write_images(folder: Path, count: int = 3) -> Path:
    for index in range(count):
        file = folder / "car" / f"{index}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(file), noise(index, 50 + index, 70))
    return folder
