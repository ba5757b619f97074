"""The hot path: rectangles of a frame in, probabilities out. The car and the benchmark both drive this object."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter_ns

from core.bundle.contract import Bundle, Probs
from core.errors import InputError, as_device_error
from core.geometry.frame import Bytes, Rect
from core.geometry.preprocess import Halves, fill
from inference.backends import Backend


class Pipeline:
    """Geometry straight into the backend's buffer, then one call for all rectangles.

    After `classify`, `pre_ns` and `infer_ns` hold the durations of its two stages.
    """

    def __init__(self, bundle: Bundle, backend: Backend) -> None:
        self.geometry = bundle.geometry
        self.backend = backend
        self.batch = backend.input_nhwc.shape[0]
        self.pre_ns = 0
        self.infer_ns = 0
        self._halves: Halves = {}

    def classify(self, frame_bgr: Bytes, rects: Sequence[Rect]) -> Probs:
        """Return float32 (len(rects), classes), valid until the next call. frame_bgr: uint8 (H, W, 3).

        Raises DeviceError for whatever the backend raises.
        """
        n = len(rects)
        if not 1 <= n <= self.batch:
            raise InputError(f"{n} regions in a frame, the model was opened for 1 to {self.batch}: open a larger batch")
        started = perf_counter_ns()
        fill(self.backend.input_nhwc, frame_bgr, rects, self.geometry, self._halves)
        filled = perf_counter_ns()
        try:
            probs = self.backend.infer(n)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # the runtimes' exceptions share no base; a panic of Rust is no Exception
            raise as_device_error(error, "the network") from error
        self.pre_ns, self.infer_ns = filled - started, perf_counter_ns() - filled
        return probs
