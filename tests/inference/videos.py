"""Small videos and folders of images for the tests of sources and the runner."""

from __future__ import annotations

from pathlib import Path

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


def write_images(folder: Path, count: int = 3) -> Path:
    for index in range(count):
        file = folder / "car" / f"{index}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(file), noise(index, 50 + index, 70))
    return folder
