"""The pictures that latency is measured on: of a source, by default of the synthetic rear camera."""

from __future__ import annotations

from contextlib import closing, suppress

from core.errors import InputError
from core.geometry.frame import Bytes
from core.redact import public_uri
from core.synthetic import ZONES, Scene
from inference.capture.base import EndOfStream, SourceLost
from inference.sources import open_source

SIZE_PX = (1280, 720)
COUNT = 16
EGO = {"ego": ZONES["ego"]}
"""The zone that is timed, at batch 1: the lane behind the car."""


def synthetic_frames(count: int = COUNT, size_px: tuple[int, int] = SIZE_PX, seed: int = 0) -> list[Bytes]:
    """Return BGR frames of the synthetic rear camera, uint8 (H, W, 3), two seconds apart."""
    scene = Scene(seed, *size_px)
    return [scene.render(round(2 * scene.fps) * i)[0] for i in range(count)]


def read_source(uri: str | None, count: int = COUNT) -> list[Bytes]:
    """Return the first `count` frames of a source, or synthetic ones. Raises InputError when it has none."""
    if uri is None:
        return synthetic_frames(count)
    frames: list[Bytes] = []
    with closing(open_source(uri)) as source, suppress(EndOfStream, SourceLost):
        while len(frames) < count and (frame := source.read(timeout_s=10.0)) is not None:
            frames.append(frame.image_bgr.copy())
    if not frames:
        raise InputError(f"{public_uri(uri)} gave no frame: check it with `python -m inference run`")
    return frames
