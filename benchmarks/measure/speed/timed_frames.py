"""The pictures that latency is measured on: of a source, by default of the synthetic rear camera."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing, suppress

import cv2
import numpy as np

from core.bundle import golden_detections
from core.bundle.contract import Bundle
from core.errors import InputError
from core.geometry.frame import Bytes
from core.redact import public_uri
from core.synthetic import ZONES, Scene
from inference.capture.base import EndOfStream, SourceLost
from inference.sources import open_source

SYNTHETIC = "synthetic://?frames=0"
SIZE_PX = (1280, 720)
COUNT = 16
EGO = {"ego": ZONES["ego"]}
"""The zone that is timed, at batch 1: the lane behind the car."""


def synthetic_frames(count: int = COUNT, size_px: tuple[int, int] = SIZE_PX, seed: int = 0) -> list[Bytes]:
    """Return BGR frames of the synthetic rear camera, uint8 (H, W, 3), two seconds apart."""
    scene = Scene(seed, *size_px)
    return [scene.render(round(2 * scene.fps) * i)[0] for i in range(count)]


def choose_frames(uri: str | None, bundles: Iterable[Bundle]) -> tuple[str, list[Bytes]]:
    """Return where the frames come from, in words, and the frames: those of a source where one is given.

    Else those that prove the detector of a bundle, enlarged to SIZE_PX's width, for there is something to find in them.
    """
    bundle = next((one for one in bundles if one.detector), None)
    if uri is not None or bundle is None:
        return public_uri(uri or SYNTHETIC), read_source(uri)
    frames = golden_detections.load(bundle.check_file(golden_detections.NAME)).frames
    return "the golden frames of the detector", [_enlarge(frame) for frame in frames]


def _enlarge(frame: Bytes) -> Bytes:
    height, width = frame.shape[:2]
    return np.asarray(cv2.resize(frame, (SIZE_PX[0], round(height * SIZE_PX[0] / width))), np.uint8)


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
