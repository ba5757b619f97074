"""One drive: a bundle and a source opened, run and closed, and what it was."""

from __future__ import annotations

import argparse
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from core.bundle.contract import Bundle, open_bundle
from core.errors import CheckError, InputError
from core.files import write_json
from core.geometry.camera_config import Camera, read_camera
from core.redact import public_uri
from inference.backends import Backend, open_backend
from inference.capture.base import Source
from inference.capture.live import play_in_real_time
from inference.frame.boxes import read_boxes
from inference.frame.decider import UNPROVED
from inference.frame.processor import FrameConfig, FrameProcessor, is_unproved
from inference.frame.regions import RegionSource, Zones, whole_frame
from inference.frame.smoothing import SmoothingConfig, read_smoothing
from inference.proof.self_test import self_test
from inference.runner.runner import Runner, RunnerConfig
from inference.runner.selection import pick_backend_and_precision
from inference.runner.sink_worker import Outlet, start_workers
from inference.runner.supervisor import BUILDING, ENDING, OPENING, Worker
from inference.sinks import Drive, open_sinks
from inference.sources import open_source

log = logging.getLogger(__name__)

SCHEMA = 1


def drive(options: argparse.Namespace, worker: Worker) -> dict[str, Any]:
    """Open everything, run, close everything; return the summary and write it to --out."""
    bundle = open_bundle(options.bundle)
    name, precision = pick_backend_and_precision(bundle, options.backend, options.precision)
    camera = read_camera(options.camera) if options.camera else Camera()
    if options.boxes and camera.zones:
        raise InputError(f"{options.camera} has zones and there is --boxes: give one of the two")
    smoothing = read_smoothing(options.decision) if options.decision else SmoothingConfig()
    boxes = read_boxes(options.boxes) if options.boxes else None
    source = opened = open_source(options.source)
    backend: Backend | None = None
    outlets: list[Outlet] = []
    try:
        regions = boxes or pick_zones(camera, source)
        worker.beat(BUILDING)
        threads = options.threads or (bundle.choice.threads_here(name, precision) if bundle.choice else None)
        backend = open_backend(name, bundle, precision, batch=regions.most, threads=threads)
        worker.beat(OPENING)
        tested = self_test(bundle, name, backend, precision)
        facts = backend.describe()
        if tested["passed"] is None:
            log.warning(f"no power-on self-test: {tested['why']}")
        if options.realtime:
            source = play_in_real_time(source)
        stamps = stamps_of(bundle, source, regions, options.allow_unproved)
        sinks = open_sinks(Drive(options, bundle, source, camera, regions, stamps, worker.number))
        outlets = start_workers(sinks, lossless=not source.live)
        config = FrameConfig(camera, smoothing, sequence=source.sequence, allow_unproved=options.allow_unproved)
        processor = FrameProcessor(bundle, backend, regions, config)
        runner = Runner(processor, source, outlets, RunnerConfig(stamps, worker=worker))
        log.info(f"running {public_uri(options.source)} on {name} {precision}, zones {' '.join(regions.names)}")
        with stopping(runner.stop.set):
            runner.run(options.frames)
    finally:
        worker.beat(ENDING)
        close_all(source, *outlets, *([backend] if backend else []))
    check_frames(runner, options.source)
    if boxes and (unmet := boxes.unmet()):
        log.warning(f"{options.boxes}: {len(unmet)} lines with boxes are of no frame that came, first {unmet[0]!r}")
    summary = {
        "schema": SCHEMA,
        "source": public_uri(options.source),
        "source_report": opened.report(),
        "synthetic": "synthetic" in stamps,
        "stamps": list(stamps),
        "bundle": facts_of(bundle),
        "backend": facts,
        "zones": list(regions.names),
        "self_test": tested,
        "restarts": worker.number,
        "habits": None if processor.smoothing is None else vars(processor.smoothing),
        **runner.summary(),
    }
    if options.out:
        write_json(options.out / "summary.json", summary)
    return summary


def pick_zones(camera: Camera, source: Source) -> Zones:
    """Return the zones of camera.json, else those of the source, else the whole frame."""
    if camera.zones:
        return Zones(camera.zones)
    return Zones(source.zones) if source.zones else whole_frame()


def stamps_of(bundle: Bundle, source: Source, regions: RegionSource, allow_unproved: bool) -> tuple[str, ...]:
    """Return the marks of every decision. Warns where fixed zones are not proved."""
    stamps = []
    if is_unproved(bundle, regions):
        stamps.append("unproved_regions")
        told = "a class is named all the same, by --allow-unproved" if allow_unproved else "no class is named"
        log.warning(f"{told}, and every decision is stamped unproved_regions: {UNPROVED}")
    if bundle.synthetic or source.synthetic:
        stamps.append("synthetic")
    return tuple(stamps)


def close_all(*parts: Source | Outlet | Backend) -> None:
    """Close each part. A failure is a warning, so that the other parts are closed and the drive's own error is kept."""
    for part in parts:
        try:
            part.close()
        except Exception as error:  # a device that has failed refuses to be closed, too
            name = type(part).__name__
            log.warning(f"{name} did not close ({type(error).__name__}: {error})")
            log.debug("where it failed:", exc_info=True)


def check_frames(runner: Runner, uri: str) -> None:
    """Raise CheckError when the drive was ended before a frame came, InputError when the source gave none."""
    if runner.tally.frames:
        return
    if runner.stop.is_set():
        raise CheckError("stopped by SIGTERM before the first frame")
    raise InputError(f"{public_uri(uri)} gave no frame: give a source that does")


@contextmanager
def stopping(stop: Callable[[], None]) -> Iterator[None]:
    """Let SIGTERM end the drive as the end of the source does: sinks finished, summary written, exit code 0."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread may take signals
        yield
        return
    old = signal.signal(signal.SIGTERM, lambda *_: stop())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, old)


def facts_of(bundle: Bundle) -> dict[str, str]:
    """Return which bundle it is: the digest is that of bundle.json."""
    digest = str(bundle.as_json()["digest"])
    return {"path": str(bundle.path), "arch": bundle.arch, "digest": digest, "contract": bundle.contract}
