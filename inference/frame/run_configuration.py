"""The configuration that decides a run's answers, as a recording keeps it, and the differences of a replay."""

from __future__ import annotations

from collections.abc import Mapping

from core.bundle.contract import HINT, Bundle
from core.data.recording import Configuration, RecordedDetector
from core.files import read_object, sha256_of_file
from core.geometry.camera_config import CameraConfig
from core.geometry.frame import Relative
from inference.frame.detection.tracked_regions import TrackedRegions
from inference.frame.regions import RegionSource

DIGITS = 12
"""Digits of a hash in a sentence."""


def facts_of(bundle: Bundle) -> dict[str, str]:
    """Return the facts that identify a bundle; the digest is that of bundle.json."""
    # not computed: a bundle of an earlier version lacks keys that `as_json` writes
    digest = read_object(bundle.file, HINT)["digest"]
    return {"path": str(bundle.path), "arch": bundle.arch, "digest": digest, "contract": bundle.contract_hash}


def configuration_of(bundle: Bundle, regions: RegionSource, picture: dict[str, object] | None = None) -> Configuration:
    """Return what decides the answers to the same pictures; a detector's file is hashed.

    picture: the keys of camera.json that were applied to the pictures.
    """
    detector = None
    if isinstance(regions, TrackedRegions):
        file, settings = regions.detector.file, regions.detector.config.as_json()
        del settings["threads"]  # the thread count decides no answer
        detector = RecordedDetector(file.name, sha256_of_file(file), settings)
    return Configuration(bundle.arch, str(facts_of(bundle)["digest"]), detector, picture)


def differences(
    recorded: Configuration, now: Configuration, camera: CameraConfig, zones: Mapping[str, Relative]
) -> list[str]:
    """Return each difference of a replay from its recording. camera: that of the replay. zones: as recorded."""
    found = []
    if recorded.bundle != now.bundle:
        found.append(
            f"the bundle was {recorded.arch} {recorded.bundle[:DIGITS]}, it is {now.arch} {now.bundle[:DIGITS]}"
        )
    if not recorded.detector and camera.zones not in ({}, zones):
        found.append("the zones are those of camera.json")
    return found + _of_detectors(recorded.detector, now.detector)


def _of_detectors(then: RecordedDetector | None, now: RecordedDetector | None) -> list[str]:
    if then is None:
        return [f"there was no detector, it is {now.file}"] if now else []
    if now is None:
        return [f"the detector was {then.file}, there is none: give it with --detector"]
    if then.sha256 != now.sha256:
        return [f"the detector was {then.file} {then.sha256[:DIGITS]}, it is {now.file} {now.sha256[:DIGITS]}"]
    changed = [(name, then.settings.get(name), value) for name, value in now.settings.items()]
    return [f"the detector's {name} was {old}, it is {new}" for name, old, new in changed if old != new]
