"""Build the engines for this device before anything is measured: a build in between would disturb the timing."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from benchmarks.measure.candidates import Candidate
from benchmarks.measure.robustness.measure import BATCH
from benchmarks.results.candidate import Unmeasured
from core.errors import CheckError, DeviceError, InputError
from inference.backends import build_missing

log = logging.getLogger(__name__)

BATCHES = (1, BATCH)
"""An engine must take one region (accuracy, latency, the runner) and BATCH (robustness), in the same file.

Where a detector is in front it takes the most boxes of a frame, too.
"""


def build_engines(candidates: Sequence[Candidate]) -> list[Unmeasured]:
    """Build every engine of these candidates that is missing; return those that cannot be built, with the reason."""
    not_built = []
    for c in candidates:
        try:
            boxes = (c.bundle.detector.most,) if c.bundle.detector else ()
            build_missing(c.backend, c.bundle, c.precision, (*BATCHES, *boxes))
        except (InputError, CheckError, DeviceError) as error:
            log.error(f"not built: {error}")
            not_built.append(Unmeasured(c.arch, c.precision, c.backend, str(error)))
    return not_built
