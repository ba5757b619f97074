"""Add a detector to a bundle: its file, its settings, and golden frames, proved on every backend that runs it."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np

from core.bundle import golden_detections
from core.bundle.contract import DETECTOR, Bundle, open_bundle
from core.bundle.engine_manifest import FOLDER, detector_engines, engines_of, load_manifest
from core.bundle.golden_detections import GoldenDetections
from core.bundle.golden_file import GoldenCheck
from core.errors import CheckError, InputError
from core.files import replacing_folder
from core.geometry.detector_config import DetectorConfig, DetectorFile
from core.geometry.frame import Bytes
from inference import backends
from inference.backends.trt import build_detector
from inference.backends.trt.onnx_metadata import check_one_file
from inference.frame.detection.detector import open_detector
from inference.proof import detector_run

log = logging.getLogger(__name__)

T = TypeVar("T")
REFERENCE = "ort"
"""The backend whose answers the golden frames expect."""
WIDTH_PX = 640
"""The largest width of a golden frame; three frames take about 2 MB."""
GOLDEN_FRAMES = 3


@dataclass(frozen=True)
class PreparedDetector:
    """A detector whose layout is known, with its golden frames."""

    path: Path
    config: DetectorConfig
    golden: GoldenDetections


def prepare(file: DetectorFile, frames: Sequence[Bytes]) -> PreparedDetector:
    """Open a detector and choose golden frames, spread over those in which it finds something.

    Raises InputError when it cannot be decoded, or finds nothing in any frame.
    """
    if file.path.is_file():  # `open_detector` says it where it is none
        check_one_file(file.path)
    if not frames:
        raise InputError(
            "there is no frame to prove the detector on: give --frames, a video or folder that shows its classes"
        )
    detector = open_detector(file, REFERENCE, None)
    try:
        smaller = [_at_most_wide(frame) for frame in frames]
        answers = [detector.detect(frame) for frame in smaller]
        found = [(frame, detector_run.as_rows(answer)) for frame, answer in zip(smaller, answers, strict=True)]
        config = detector.config
        # the comparison leaves out what is within one margin of the threshold: with two, a box is still compared when
        # another runtime scores it one margin lower
        sure = config.threshold + 2 * golden_detections.score_margin(config.threshold)
        with_sure_box = [(frame, rows) for frame, rows in found if (rows[:, 4] > sure).any()]
        chosen = spread(with_sure_box, GOLDEN_FRAMES)
        looked_at = [frame for frame, _ in chosen] or spread(smaller, GOLDEN_FRAMES)
        faults = [fault for frame in looked_at if (fault := detector.find_fault(frame))]
    finally:
        detector.close()
    # boxes from 0 to 1 are found, but they are a pixel each
    if faults and (not chosen or len(faults) == len(looked_at)):
        raise InputError(f"{file.path} {faults[0]}")
    if not chosen:
        raise InputError(
            f"{file.path} finds nothing with a score above {sure:.3g} in {len(frames)} frames:"
            " give --frames that show its classes"
        )
    if nan := sum(answer is None for answer in answers):
        log.warning(f"{file.path} gives NaN in {nan} of {len(frames)} frames: such a frame is BLIND in the car")
    counts = [len(rows) for _, rows in chosen]
    numbers = np.repeat(np.arange(len(chosen)), counts).astype(np.int32)
    boxes_n6 = np.concatenate([rows for _, rows in chosen])
    return PreparedDetector(file.path, config, GoldenDetections(tuple(frame for frame, _ in chosen), boxes_n6, numbers))


def spread(items: Sequence[T], most: int) -> list[T]:
    """Return at most `most` items, spread evenly over all of them."""
    if not items:
        return []
    positions = np.linspace(0, len(items) - 1, most).round().astype(int)
    # with fewer items than `most` some positions come twice
    return [items[i] for i in np.unique(positions)]


def _at_most_wide(frame: Bytes) -> Bytes:
    height, width = frame.shape[:2]
    if width <= WIDTH_PX:
        return frame.copy()
    size = (WIDTH_PX, round(height * WIDTH_PX / width))
    return np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), np.uint8)


def add(folder: Path, detector: PreparedDetector) -> list[GoldenCheck]:
    """Add a detector to a bundle, or replace the one there; return the checks on every backend that runs it.

    Its engines are built for the devices that the bundle has engines for. Raises CheckError when a check fails; the
    bundle is then unchanged.
    """
    # first, because the new bundle.json hashes the files as they are now: a damaged one would pass as proved
    bundle = open_bundle(folder)
    bundle.check_files()
    targets = _targets(bundle)
    with replacing_folder(folder) as made:
        shutil.copytree(folder, made, dirs_exist_ok=True)
        for engine in detector_engines(bundle):  # of the detector that is replaced
            for file in (made / FOLDER).glob(f"{engine.name}*"):
                file.unlink()
        shutil.copyfile(detector.path, made / DETECTOR)
        detector.golden.save(made / golden_detections.NAME)
        checks = prove_detector(_bind(open_bundle(made), detector.config))
    _build_engines(DetectorFile(folder / DETECTOR, detector.config), targets)
    return checks


def _targets(bundle: Bundle) -> list[tuple[str, int]]:
    """Return the runtime and compute capability of each engine of a bundle, each pair once."""
    targets = set()
    for engine in engines_of(bundle):
        with suppress(InputError):  # `verify` names a damaged one
            manifest = load_manifest(engine, "")
            targets.add((manifest.runtime, int(manifest.target.removeprefix("sm"))))
    return sorted(targets)


def _build_engines(file: DetectorFile, targets: Sequence[tuple[str, int]]) -> None:
    for runtime, sm in targets:
        try:
            build_detector(file, runtime=runtime, sm=sm)
        except (CheckError, InputError) as error:  # there it runs on the CPU
            log.warning(f"the detector has no engine of {runtime} for sm{sm}: {error}")


def keep_detector(earlier: Path, bundle: Bundle) -> Bundle:
    """Return a new bundle with the detector of the earlier one that it replaces; without one, the new bundle.

    Its files are copied, but neither bound nor proved yet. An earlier bundle or detector that is damaged is not kept,
    with a warning.
    """
    if not (earlier / "bundle.json").is_file():
        return bundle
    try:
        old = open_bundle(earlier)
        if old.detector is None:
            return bundle
        for name in (DETECTOR, golden_detections.NAME):
            shutil.copyfile(old.check_file(name), bundle.path / name)
    except InputError as error:
        for name in (DETECTOR, golden_detections.NAME):
            (bundle.path / name).unlink(missing_ok=True)
        log.warning(f"a detector in {earlier} is not kept, add it again with `python -m export add-detector`: {error}")
        return bundle
    return replace(bundle, detector=old.detector)


def keeps_detector(earlier: Path) -> bool:
    """Return whether a new export in place of this bundle keeps a detector of it."""
    with suppress(InputError):  # there is none, or it is damaged
        return open_bundle(earlier).detector is not None
    return False


def _bind(bundle: Bundle, config: DetectorConfig) -> Bundle:
    """Write bundle.json anew, with the detector whose files lie beside it."""
    # a set: a detector that is replaced is among the files already
    names = sorted({*bundle.files, DETECTOR, golden_detections.NAME})
    bound = replace(bundle, detector=config).with_files(names)
    bound.save()
    return bound


def prove_detector(bundle: Bundle) -> list[GoldenCheck]:
    """Return the checks of a bundle's detector on every backend that opens its file here, and say which does not.

    Engines are proved by `verify`, on their own device. Raises CheckError naming the first failure.
    """
    rows = list[GoldenCheck]()
    loaded = backends.usable()
    opening = {name: module for name, module in loaded.items() if hasattr(module, "open_network")}
    able = [name for name, module in opening.items() if not hasattr(module, "BuildOptions")]
    available = [name for name in able if backends.availability(name).available]
    for name in available:
        try:
            rows += detector_run.check_file(bundle, name, None)
        except backends.UnavailableError as error:
            log.warning(f"not proved on {name}: {error}")
    for row in rows:
        if not row.passed:
            what = f"{row.check} is {row.value:.3g}, the limit is {row.limit:g}"
            raise CheckError(f"{bundle.arch}: the detector on {row.backend}: {what}")
    return rows
