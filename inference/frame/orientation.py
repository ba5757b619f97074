"""Turns a camera's frames upright."""

from __future__ import annotations

import cv2
import numpy as np

from core.geometry.camera_config import ROTATIONS, CameraConfig
from core.geometry.frame import WHOLE_FRAME, Bytes


class FrameOrientation:
    """Turns a camera's frames upright, into one reused buffer; without rotation, crop and mirror at no cost."""

    def __init__(self, camera: CameraConfig) -> None:
        self._camera = camera
        self._turned: Bytes | None = None
        self._flipped: Bytes | None = None

    def upright(self, frame_bgr: Bytes) -> Bytes:
        """Return the upright picture: `frame_bgr` itself, a view of it, or a buffer that the next call overwrites."""
        camera = self._camera
        if camera.rotation:
            # OpenCV writes into `dst` where its size fits, else it makes another array
            turned = cv2.rotate(frame_bgr, ROTATIONS[camera.rotation], dst=self._turned)
            self._turned = np.asarray(turned, np.uint8)
            frame_bgr = self._turned
        if camera.crop != WHOLE_FRAME:
            height, width = frame_bgr.shape[:2]
            x0, y0, x1, y1 = camera.crop
            # at least a pixel stays, however small the frame is
            left = min(int(x0 * width), width - 1)
            top = min(int(y0 * height), height - 1)
            right = max(round(x1 * width), left + 1)
            bottom = max(round(y1 * height), top + 1)
            frame_bgr = frame_bgr[top:bottom, left:right]
        if camera.mirror_for_network:
            self._flipped = np.asarray(cv2.flip(frame_bgr, 1, dst=self._flipped), np.uint8)
            frame_bgr = self._flipped
        return frame_bgr
