"""Classifies rectangles of a frame; crops are written straight into the backend's own input buffer."""

from __future__ import annotations

from collections.abc import Sequence

from core.bundle.contract import Bundle, Probs
from core.errors import InputError, as_device_error
from core.geometry.frame import Bytes, Rect
from core.geometry.preprocess import PyramidBuffers, fill
from inference.backends import Backend, open_backend, without_spinning
from inference.frame.regions import RegionSource


def open_classifier(
    regions: RegionSource,
    name: str,
    bundle: Bundle,
    precision: str,
    threads: int | None = None,
    options: Sequence[str] = (),
) -> Backend:
    """Open the backend `name` with a batch for the most regions of a frame. Raises what `open_backend` raises.

    Beside a detector its idle threads do not spin: on two busy cores a frame then takes 0.33 of the time (two threads,
    YOLOX-Nano, median of 11 rounds in turns; docs/results/2026-11-26-frames.md).
    """
    if regions.shares_cores:
        options = without_spinning(name, options)
    return open_backend(name, bundle, precision, batch=regions.max_regions, threads=threads, options=options)


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
