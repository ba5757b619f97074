"""Pictures of the labeled frames with the most errors; the template draws the boxes over them."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass

import cv2

from benchmarks.results.frames import FrameErrors
from core.data.labeled_frames import LabeledFrame, load_frame
from core.data.pack import Pack

WIDTH_PX, QUALITY = 640, 70
"""Six pictures of this width and JPEG quality take less than 0.5 MB of the page."""


@dataclass(frozen=True)
class FramePicture:
    """A frame as the report shows it."""

    errors: FrameErrors
    picture: str
    """A data URI."""


def encode_frames(worst: Iterable[FrameErrors], pack: Pack) -> list[FramePicture]:
    """Return the pictures of these frames; one that can no longer be read is left out."""
    found = []
    for errors in worst:
        pixels = load_frame(pack, LabeledFrame(errors.source, "", None, errors.size_px))
        if not isinstance(pixels, str):  # the data set may have moved since it was measured
            scale = min(1.0, WIDTH_PX / pixels.shape[1])
            small = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            coded = cv2.imencode(".jpg", small, (cv2.IMWRITE_JPEG_QUALITY, QUALITY))[1]
            data = base64.b64encode(coded.tobytes()).decode("ascii")
            found.append(FramePicture(errors, f"data:image/jpeg;base64,{data}"))
    return found
