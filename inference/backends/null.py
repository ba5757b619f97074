"""The null backend: no model, uniform probabilities. Everything but the network can be tested and timed with it.

Measured: the frame step without a network takes 0.28 to 0.38 ms for the whole frame of 1280x720 at 64 px, one core of
an AMD EPYC, in turns with the other backends (rounds not recorded), 2026-11-25, `python -m benchmarks.studies hotpath
BUNDLE`; docs/results/2026-11-25-hotpath.txt.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from core.bundle.contract import PRECISIONS as PRECISIONS
from core.bundle.contract import Bundle, Probs
from core.plugins import PluginOptions as Options
from inference.backends import Availability, Backend


def availability() -> Availability:
    """Return that it is available: it needs nothing."""
    return Availability(available=True, version=np.__version__)


def open_backend(bundle: Bundle, precision: str, batch: int, options: Options) -> NullBackend:
    """Open nothing: answers the uniform distribution over the bundle's classes."""
    return NullBackend(bundle, precision, batch)


class NullBackend(Backend):
    """Answers the uniform distribution."""

    def __init__(self, bundle: Bundle, precision: str, batch: int) -> None:
        self.input_nhwc = bundle.geometry.empty(batch)
        # made once: a call must cost nothing, so that what is timed is everything but the network
        classes = len(bundle.classes)
        self._probs_nc = np.full((batch, classes), 1 / classes, np.float32)
        self._precision = precision

    def infer(self, n: int) -> Probs:
        """Return the uniform distribution, float32 (n, classes)."""
        return self._probs_nc[:n]

    def describe(self) -> dict[str, Any]:
        """Return what runs: nothing."""
        return {
            "backend": "null",
            "runtime": "none",
            "version": np.__version__,
            "device": "none",
            "precision": self._precision,
            "file": None,
            "threads": 1,
        }

    def close(self) -> None:
        """Do nothing."""
