"""The frames that latency is measured on: real ones from a source, or those of the synthetic rear camera."""

from __future__ import annotations

from inference.preprocess import Bytes, Rect, clip_rect
from inference.scene.camera import Scene, zone_rects

SIZE_PX = (1280, 720)


def ego_rect(frame_bgr: Bytes) -> Rect:
    """Return the rectangle of the ego zone behind the car: the same part of a frame of any size."""
    height, width = frame_bgr.shape[:2]
    return clip_rect(zone_rects(width, height)["ego"], width, height)


def synthetic_frames(count: int = 8, size_px: tuple[int, int] = SIZE_PX, seed: int = 0) -> list[Bytes]:
    """Return BGR frames of the synthetic rear camera, uint8 (H, W, 3), two seconds apart."""
    scene = Scene(seed, *size_px)
    return [scene.render(round(2 * scene.fps) * i)[0] for i in range(count)]
