"""Chooses the regions that a session classifies: boxes of a detector, zones, or the whole frame."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from core.bundle.contract import DETECTOR, Bundle
from core.errors import InputError
from core.geometry.camera_config import CameraConfig
from core.geometry.detector_config import DetectorFile
from inference import backends
from inference.capture.base import Source
from inference.frame.detection.detector import open_detector_or_on_cpu
from inference.frame.detection.tracked_regions import TrackedRegions
from inference.frame.regions import RegionSource, Zones, whole_frame

log = logging.getLogger(__name__)


def pick_detector(camera: CameraConfig, file: Path | None) -> DetectorFile | None:
    """Return the detector that the user gave: `file`, with the settings of camera.json, else the one of camera.json."""
    if file is None:
        return camera.detector
    if camera.zones:
        raise InputError("there are zones in camera.json and there is --detector: give one of the two")
    return replace(camera.detector, path=file) if camera.detector else DetectorFile(file)


def check_detector_flags(bundle: Bundle, camera: CameraConfig, file: Path | None, backend: str | None) -> None:
    """Log which detector is taken of two. Raises InputError for --detector-backend where none runs on it."""
    if file and camera.detector and camera.detector.path != file:
        log.info(f"the detector is {file}, by --detector, with the settings of camera.json, not {camera.detector.path}")
    if backend is None:
        return
    backends.find(backend)
    if not (file or camera.detector or find_detector(bundle, camera)):
        raise InputError("there is --detector-backend and no detector: add --detector FILE.onnx, or leave it out")


def open_regions(
    bundle: Bundle,
    camera: CameraConfig,
    detector: DetectorFile | None,
    source: Source,
    backend: str,
    threads: int | None,
) -> RegionSource:
    """Open the regions: `detector`, else camera.json's zones, else the bundle's detector, else the source's own zones.

    Without any of them the whole frame is the one region. backend, threads: what a detector runs on where it can.
    """
    detector = detector or find_detector(bundle, camera)
    if detector is None:
        return pick_zones(camera, source)
    return TrackedRegions(open_detector_or_on_cpu(detector, backend, threads), sequence=source.sequence)


def find_detector(bundle: Bundle, camera: CameraConfig) -> DetectorFile | None:
    """Return the bundle's detector, checked against its hash; None where it has none, or camera.json has zones."""
    if bundle.detector is None or camera.zones:  # what the user gave comes before what the bundle brings
        return None
    return DetectorFile(bundle.check_file(DETECTOR), bundle.detector)


def pick_zones(camera: CameraConfig, source: Source) -> Zones:
    """Return the zones of camera.json, else those of the source, else the whole frame."""
    if camera.zones:
        return Zones(camera.zones)
    return Zones(source.zones) if source.zones else whole_frame()
