"""Build missing engines before anything is measured, since a build would disturb the timing."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from benchmarks.measure.candidates import Candidate
from benchmarks.measure.robustness.file_robustness import BATCH
from benchmarks.results.candidate import Unmeasured
from core.errors import CheckError, DeviceError, InputError
from core.geometry.camera_config import CameraConfig
from inference.backends import build_missing, build_missing_detector
from inference.runner.region_choice import find_detector

log = logging.getLogger(__name__)

BATCHES = (1, BATCH)
"""Batch sizes of an engine: one region (accuracy, latency, the runner) and BATCH (robustness).

A bundle with a detector adds the largest number of boxes of a frame.
"""


def build_engines(candidates: Sequence[Candidate], regions: int) -> list[Unmeasured]:
    """Build every missing engine of these candidates; return those that cannot be built, with the reason.

    regions: the most regions of a frame that is timed or labeled.
    """
    not_built = []
    for c in candidates:
        try:
            # the regions of a frame are one batch, so the largest number of boxes must fit in
            boxes = (c.bundle.detector.most,) if c.bundle.detector else ()
            # up to BATCH regions fit into the engine as it is; more need a batch size of their own
            more = (regions,) if regions > BATCH else ()
            build_missing(c.backend, c.bundle, c.precision, (*BATCHES, *boxes, *more))
        except (InputError, CheckError, DeviceError) as error:  # the other candidates are measured all the same
            log.error(f"not built: {error}")
            not_built.append(Unmeasured(c.arch, c.precision, c.backend, str(error)))
    return not_built


def build_detector_engines(candidates: Sequence[Candidate], camera: CameraConfig) -> None:
    """Build every missing engine of the detectors in front of the candidates: the camera's, and the bundles' own.

    One that cannot be built is a warning, since the CPU runs the detector then.
    """
    files = [find_detector(bundle, camera) for bundle in {c.bundle.path: c.bundle for c in candidates}.values()]
    by_path = {file.path: file for file in [camera.detector, *files] if file}
    for backend in sorted({c.backend for c in candidates}):
        for file in by_path.values():
            try:
                build_missing_detector(backend, file)
                continue
            except OSError as error:  # its folder may be read-only
                reason = f"{error.filename} cannot be written ({error.strerror})"
            except (InputError, CheckError, DeviceError) as error:
                reason = str(error)
            log.warning(f"no engine of the detector, which runs on the CPU before {backend}: {reason}")
