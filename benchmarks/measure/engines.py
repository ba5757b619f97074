"""The engines for this device: all that a measurement will open is built before anything is measured."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from benchmarks.measure.candidates import list_candidates
from benchmarks.measure.robustness.measure import BATCH
from benchmarks.results import Unmeasured
from core.bundle.contract import Bundle
from core.errors import CheckError, DeviceError, InputError
from inference.backends import build_missing

log = logging.getLogger(__name__)

BATCHES = (1, BATCH)
"""Accuracy, latency and the car's own command run one region at a time, robustness BATCH: on one and the same file."""


def build_engines(bundles: Mapping[str, Bundle], backends: Sequence[str]) -> list[Unmeasured]:
    """Build every engine of these bundles that is missing on this device; return those that cannot be built, with why.

    bundles: by the name that stands in the report.
    """
    not_built = []
    for c in list_candidates(bundles, backends, [1]):
        try:
            build_missing(c.backend, c.bundle, c.precision, BATCHES)
        except (InputError, CheckError, DeviceError) as error:
            log.error(f"not built: {error}")
            not_built.append(Unmeasured(c.arch, c.precision, c.backend, str(error)))
    return not_built
