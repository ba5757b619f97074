"""Runs one session: opens a bundle and a source, runs them, closes them and returns the summary.

Where a supervisor is used, each of its workers runs one session: a restart is a new process and a new session.
"""

from __future__ import annotations

import json
import logging
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.bundle.contract import Bundle, open_bundle
from core.errors import CheckError, InputError, check_threads
from core.files import write_json
from core.geometry.camera_config import CameraConfig, read_camera_config
from core.redact import public_uri
from inference.backends import Backend
from inference.capture.base import Source
from inference.capture.live import play_in_real_time
from inference.frame.boxes import read_boxes
from inference.frame.classifier import open_classifier
from inference.frame.decider import UNPROVED
from inference.frame.detection.tracked_regions import TrackedRegions
from inference.frame.processor import FrameConfig, FrameProcessor, is_unproved
from inference.frame.regions import RegionSource
from inference.frame.run_configuration import configuration_of, differences, facts_of
from inference.frame.smoothing import SmoothingConfig, read_smoothing
from inference.proof.self_test import run_self_test
from inference.runner.earlier_run import make_room
from inference.runner.heartbeats import ENDING, LOADING, OPENING, RunnerProcess
from inference.runner.region_choice import check_detector_flags, open_regions, pick_detector
from inference.runner.runner import Runner, RunnerConfig
from inference.runner.selection import pick_backend_and_precision
from inference.runner.sink_worker import SinkWorker
from inference.sinks import SinkContext, open_sinks
from inference.sources import open_source

log = logging.getLogger(__name__)

SCHEMA = 1


@dataclass(frozen=True)
class SessionConfig:
    """The settings of a session; the names are those of the command line."""

    bundle: Path
    source: str
    backend: str | None = None
    """None: see `pick_backend_and_precision`; so for `precision`."""
    precision: str | None = None
    threads: int | None = None
    """None: as the benchmark chose on this machine, else as the backend does."""
    backend_option: Sequence[str] = ()
    """Options of the backend, as `name=value` texts."""
    camera: Path | None = None
    """camera.json: zones and mounting."""
    boxes: Path | None = None
    """boxes.jsonl, or a pack: the regions of each frame."""
    detector: Path | None = None
    """An ONNX file whose boxes are the regions of each frame."""
    detector_backend: str | None = None
    """The backend that runs a detector; None: that of the classifier."""
    smoothing: Path | None = None
    """smoothing.json: the settings of smoothing over time."""
    allow_unproved: bool = False
    frames: int | None = None
    """The session ends after this many frames; None: when the source does."""
    realtime: bool = False
    """A recorded source is played at its own rate, with drops."""
    out: Path | None = None
    """The folder of summary.json."""
    overwrite: bool = False
    """An earlier run in `out` is replaced; else it is kept in a folder there."""
    sink_options: Mapping[str, object] = field(default_factory=dict)
    """All options of the command, by name; each sink takes its own of them."""

    def __post_init__(self) -> None:
        if self.frames is not None and self.frames < 1:
            raise InputError(f"--frames is {self.frames}: give 1 or more")
        check_threads(self.threads)


def run_session(config: SessionConfig, process: RunnerProcess) -> dict[str, Any]:
    """Open everything, run, close everything; return the summary and write it to --out."""
    with ExitStack() as until_end:
        return _run_session(config, process, until_end)


def _run_session(config: SessionConfig, process: RunnerProcess, until_end: ExitStack) -> dict[str, Any]:
    bundle = open_bundle(config.bundle)
    camera = _read_camera(config, bundle)
    detector = pick_detector(camera, config.detector)
    name, precision = pick_backend_and_precision(bundle, config.backend, config.precision)
    threads = config.threads or (bundle.choice.threads_here(name, precision) if bundle.choice else None)
    smoothing = read_smoothing(config.smoothing) if config.smoothing else SmoothingConfig()
    boxes = read_boxes(config.boxes) if config.boxes else None
    source = inner_source = open_source(config.source)  # --realtime wraps `source`; only the inner one has the report
    backend: Backend | None = None
    regions: RegionSource | None = None
    sinks: list[SinkWorker] = []
    try:
        camera = camera_for(source, camera, config.camera)
        process.heartbeat(LOADING)  # the supervisor allows more time while kernels may be compiled
        regions = boxes or open_regions(bundle, camera, detector, source, config.detector_backend or name, threads)
        backend = open_classifier(regions, name, bundle, precision, threads, config.backend_option)
        process.heartbeat(OPENING)
        bundled_detector = regions.detector if detector is None and isinstance(regions, TrackedRegions) else None
        self_test = run_self_test(bundle, name, backend, precision, bundled_detector)  # before a sink makes a file
        facts = backend.describe()
        if config.realtime:
            source = play_in_real_time(source)
        stamps = stamps_of(bundle, source, regions, config.allow_unproved, unproved_detector=detector is not None)
        context = SinkContext(bundle, source, camera, regions, stamps, process.number)
        if config.out and not process.number:  # a later worker continues the files of the first
            make_room(config.out, overwrite=config.overwrite)
        sinks = [SinkWorker(sink, waits=not source.live) for sink in open_sinks(context, config.sink_options)]
        settings = FrameConfig(camera, smoothing, sequence=source.sequence, allow_unproved=config.allow_unproved)
        processor = FrameProcessor(bundle, backend, regions, settings)
        runner = Runner(processor, source, sinks, RunnerConfig(stamps, process=process))
        warn_of_other_configuration(inner_source, bundle, camera, regions)
        runs_on = f"{facts['backend']} {facts['precision']}, regions: {describe_regions(regions)}"
        log.info(f"running {public_uri(config.source)} on {runs_on}")
        # until the summary is written: systemd tells the worker to end, too, and the supervisor tells it again
        until_end.enter_context(stopping(runner.stop.set))
        runner.run(config.frames)
    finally:
        process.heartbeat(ENDING)  # a sink may take longer to write its queue than a worker may be silent
        close_all(source, *sinks, *(part for part in (backend, regions) if part))
    check_frames(runner, config.source)
    if boxes and (unmatched := boxes.unmatched()):
        log.warning(f"{config.boxes}: {len(unmatched)} lines with boxes match no frame, first {unmatched[0]!r}")
    summary = {
        "schema": SCHEMA,
        "source": public_uri(config.source),
        "source_report": inner_source.report(),
        "synthetic": "synthetic" in stamps,
        "stamps": list(stamps),
        "bundle": facts_of(bundle),
        "backend": facts,
        "zones": list(regions.names),
        "self_test": self_test,
        "restarts": process.number,
        "habits": None if processor.smoothing is None else vars(processor.smoothing),
        **runner.summary(),
    }
    if config.out:
        write_json(config.out / "summary.json", summary)
    return summary


def _read_camera(config: SessionConfig, bundle: Bundle) -> CameraConfig:
    """Read camera.json. Raises InputError where it and the command line name regions that exclude each other."""
    camera = read_camera_config(config.camera) if config.camera else CameraConfig()
    if config.boxes and (camera.zones or camera.detector or config.detector or config.detector_backend):
        raise InputError("there is --boxes and there are zones or a detector: give one of them")
    check_detector_flags(bundle, camera, config.detector, config.detector_backend)
    return camera


def stamps_of(
    bundle: Bundle, source: Source, regions: RegionSource, allow_unproved: bool, *, unproved_detector: bool = False
) -> tuple[str, ...]:
    """Return the marks that every decision carries. Warns where fixed zones or the detector are not proved."""
    stamps = []
    if unproved_detector:
        stamps.append("unproved_detector")
        log.warning("the detector is not the bundle's, so nothing proves it: python -m export add-detector adds it")
    if is_unproved(bundle, regions):
        stamps.append("unproved_regions")
        effect = "a class is named all the same, by --allow-unproved" if allow_unproved else "no class is named"
        log.warning(f"{effect}, and every decision is stamped unproved_regions: {UNPROVED}")
    if bundle.synthetic or source.synthetic:
        stamps.append("synthetic")
    return tuple(stamps)


def camera_for(source: Source, camera: CameraConfig, file: Path | None) -> CameraConfig:
    """Return camera.json as it holds for a source: the keys that were applied to recorded pictures are left out.

    Raises InputError where `file` would turn, crop or mirror recorded pictures in another way.
    """
    keys = camera.picture_keys()
    if not (source.upright and keys):
        return camera
    applied = source.recorded.picture if source.recorded else None
    if applied == keys:
        return camera.without_picture_keys()
    known = "" if applied is None else f", and were recorded with {json.dumps(applied) if applied else 'none of these'}"
    raise InputError(
        f"{file} has {json.dumps(keys)}, but the pictures of a recording are upright and cropped "
        f"already{known}: leave these keys out, or give the camera.json in the recording's folder"
    )


def warn_of_other_configuration(source: Source, bundle: Bundle, camera: CameraConfig, regions: RegionSource) -> None:
    """Warn where a recording is replayed with something else than it was made with."""
    if source.recorded is None:
        return
    now = configuration_of(bundle, regions)
    if found := differences(source.recorded, now, camera, source.zones or {}):
        log.warning(f"this replay differs from the recorded run: {'; '.join(found)}")


def describe_regions(regions: RegionSource) -> str:
    """Return the names of the regions, and what finds them."""
    by = f" by a detector on {regions.detector.backend}" if isinstance(regions, TrackedRegions) else ""
    return " ".join(regions.names) + by


def close_all(*parts: Source | SinkWorker | Backend | RegionSource) -> None:
    """Close each part. A failure is a warning: the other parts are closed too, and the session's error is kept."""
    for part in parts:
        try:
            part.close()
        except Exception as error:  # a device that failed may fail again as it is closed
            name = type(part).__name__
            log.warning(f"{name} did not close ({type(error).__name__}: {error})")
            log.debug("where it failed:", exc_info=True)


def check_frames(runner: Runner, uri: str) -> None:
    """Raise CheckError when the session was ended before a frame came, InputError when the source gave none."""
    if runner.stats.frames:
        return
    if runner.stop.is_set():
        raise CheckError("stopped by SIGTERM before the first frame")
    raise InputError(f"{public_uri(uri)} gave no frame: give a source that does")


@contextmanager
def stopping(stop: Callable[[], None]) -> Iterator[None]:
    """Make SIGTERM end the session as the end of the source does: sinks finished, summary written, exit code 0."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread may take signals
        yield
        return
    old = signal.signal(signal.SIGTERM, lambda *_: stop())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, old)
