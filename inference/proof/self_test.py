"""The self-test at power-on: the golden frames through the open backend, before the first decision."""

from __future__ import annotations

import logging
from time import perf_counter_ns
from typing import Any

from core.bundle import golden_file
from core.bundle.contract import Bundle
from core.errors import CheckError
from inference.backends import Backend
from inference.frame.detection.detector import Detector
from inference.proof import detector_run, golden_run

log = logging.getLogger(__name__)

EVERY = 2
"""The self-test runs every second region of all frames, under 100 ms at 224 px. `verify` runs all of them."""


def run_self_test(
    bundle: Bundle, backend_name: str, backend: Backend, precision: str, detector: Detector | None = None
) -> dict[str, Any]:
    """Run the golden frames; return {"passed", "ms", "checks"}, or {"passed": None, "why"} for a bundle without any.

    detector: the bundle's own, open; None where no detector or another one runs.
    Raises CheckError naming the first check that failed.
    """
    if golden_file.NAME not in bundle.files:
        reason = f"the bundle holds no {golden_file.NAME}"
        log.warning(f"no self-test: {reason}")
        return {"passed": None, "why": reason}
    # a detector that the user named is not checked: the bundle holds no answers for it
    started = perf_counter_ns()
    rows = golden_run.check_golden(bundle, backend_name, backend, precision, every=EVERY)
    rows += detector_run.check(bundle, detector) if detector else ()
    took_ms = (perf_counter_ns() - started) / 1e6
    for row in rows:
        if not row.passed:
            raise CheckError(
                f"the self-test of {bundle.path} ({row.precision} on {backend_name}): "
                f"{row.check} is {row.value:.4g}, the limit is {row.limit:g}; export the run again"
            )
    checks = [{"check": row.check, "value": row.value, "limit": row.limit} for row in rows]
    return {"passed": True, "ms": round(took_ms, 1), "checks": checks}
