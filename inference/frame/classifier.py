"""Classifies rectangles of a frame; crops are written straight into the backend's own input buffer."""

from __future__ import annotations

from collections.abc import Sequence

from core.bundle.contract import Bundle, Probs
from core.errors import InputError, as_device_error
from core.geometry.frame import Bytes, Rect
from core.geometry.preprocess import PyramidBuffers, fill
from inference.backends import Backend


class RegionClassifier:
    """Crops rectangles into the backend's input and classifies all of them in one call."""

    def __init__(self, bundle: Bundle, backend: Backend) -> None:
        self.geometry = bundle.geometry
        self.backend = backend
        self.batch = backend.input_nhwc.shape[0]
        self._buffers: PyramidBuffers = {}

    def classify(self, frame_bgr: Bytes, rects: Sequence[Rect]) -> Probs:
        """Return float32 (len(rects), classes), valid until the next call. frame_bgr: uint8 (H, W, 3).

        Raises DeviceError for whatever the backend raises.
        """
        # two steps that the frame processor times one by one
        self.fill(frame_bgr, rects)
        return self.infer(len(rects))

    def fill(self, frame_bgr: Bytes, rects: Sequence[Rect]) -> None:
        """Write the rectangles into the first rows of the backend's input. Raises InputError if they do not fit."""
        n = len(rects)
        if not 1 <= n <= self.batch:
            raise InputError(f"{n} regions in a frame, the model was opened for 1 to {self.batch}: open a larger batch")
        fill(self.backend.input_nhwc, frame_bgr, rects, self.geometry, self._buffers)

    def infer(self, n: int) -> Probs:
        """Return the probabilities of the first n rows. Raises DeviceError for whatever the backend raises."""
        try:
            return self.backend.infer(n)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # the runtimes' exceptions share no base; a panic of Rust is no Exception
            raise as_device_error(error, "the network") from error
