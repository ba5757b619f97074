"""Measure all candidates side by side, open at once: accuracy one by one, then latency in turns."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from benchmarks.measure.accuracy import check_same_data, predict, score
from benchmarks.measure.candidates import Candidate
from benchmarks.measure.speed.latency import frame_at, measure_noise, take_turns
from benchmarks.measure.speed.timed_frames import EGO
from benchmarks.results.candidate import Accuracy, CandidateResult, Latency, NotMeasured, Unmeasured
from benchmarks.results.run import Noise
from core.data.pack import Pack
from core.errors import InputError, as_device_error
from core.geometry.camera_config import CameraConfig
from core.geometry.frame import Bytes
from inference.backends import Backend, open_backend
from inference.frame.classifier import RegionClassifier
from inference.frame.detection.detector import open_detector
from inference.frame.detection.tracked_regions import TrackedRegions
from inference.frame.processor import FrameConfig, FrameProcessor
from inference.frame.regions import RegionSource, Zones
from inference.proof.verify import prove
from inference.runner.region_choice import find_detector

log = logging.getLogger(__name__)
Opened = tuple[Candidate, FrameProcessor]

OTHER_SIZE = "it was exported at another size than it was trained at: for latency only"


@dataclass(frozen=True)
class MeasuredSet:
    """The candidates that were measured side by side, with the noise of their timing."""

    rows: tuple[CandidateResult, ...]
    noise: Noise
    refused: tuple[Unmeasured, ...]
    """Candidates that their backend did not open."""


def measure_side_by_side(
    candidates: Sequence[Candidate], pack: Pack, frames: Sequence[Bytes], *, samples: int
) -> MeasuredSet:
    """Measure accuracy and latency of every candidate; the first one that opens is opened twice, as the A/A control."""
    check_files(candidates, pack)
    with open_side_by_side(candidates) as (opened, refused):
        if not opened:
            raise InputError(f"no candidate opens; the first reason: {refused[0].reason}")
        check_detections(opened, frames)
        reasons = [why_not_selectable(c, p.classifier.backend) for c, p in opened]
        answers = [measure_accuracy(c, p.classifier, pack) for c, p in opened]
        # the control takes its turns among the others, so that its noise is the noise of their figures
        with open_side_by_side([opened[0][0]]) as (control, _):
            processors = [one for _, one in [*opened, *control]]
            *latencies, again = take_turns(processors, frames, samples=samples, on_round=show_progress("latency"))
        rows = [
            result_of(c, one.classifier.backend.describe(), latency, accuracy, reason)
            for (c, one), latency, accuracy, reason in zip(opened, latencies, answers, reasons, strict=True)
        ]
    return MeasuredSet(tuple(rows), measure_noise(rows[0].name, latencies, again), tuple(refused))


def result_of(
    candidate: Candidate, opened: dict[str, object], latency: Latency, accuracy: Accuracy | NotMeasured, why_not: str
) -> CandidateResult:
    """Return the row of a candidate. Later measurements replace what is not measured yet."""
    c = candidate
    size = c.bundle.geometry.size_px, c.size_bytes(str(opened["file"]))
    return CandidateResult(c.arch, c.precision, c.backend, c.threads, *size, opened, latency, why_not, accuracy)


def why_not_selectable(candidate: Candidate, backend: Backend) -> str:
    """Return why a candidate may never be chosen, or nothing."""
    if not candidate.bundle.selectable:
        return OTHER_SIZE
    if not candidate.proved:
        return f"{candidate.precision} is not among the precisions that its bundle proved"
    return why_unproved(candidate, backend)


def why_unproved(candidate: Candidate, backend: Backend) -> str:
    """Run the golden frames, which proves an engine; return the reason why the candidate is unproved, or nothing."""
    c = candidate
    try:
        failed = [row for row in prove(c.bundle, c.backend, backend, c.precision) if not row.passed]
    except Exception as error:  # a runtime may raise anything
        return f"it is not proved on this device: {as_device_error(error, c.name)}"
    if failed:
        row = failed[0]
        return f"its golden frames do not hold on this device: {row.check} is {row.value:.3g}, not under {row.limit:g}"
    return "" if backend.proved else "it is not proved on this device: no proof can be written beside its engine"


def check_files(candidates: Sequence[Candidate], pack: Pack) -> None:
    """Raise InputError when a bound file is damaged, or the pack is of other classes: before anything is measured."""
    for bundle in {c.arch: c.bundle for c in candidates}.values():
        check_same_data(pack, bundle)
        bundle.check_files()


def open_timed_regions(candidate: Candidate) -> RegionSource:
    """Return the regions that are timed: tracked boxes of the bundle's detector; one zone where it has none."""
    detector = find_detector(candidate.bundle, CameraConfig())
    return TrackedRegions(open_detector(detector, candidate.backend, candidate.threads)) if detector else Zones(EGO)


def check_detections(opened: Sequence[Opened], frames: Sequence[Bytes]) -> None:
    """Raise InputError when a detector finds nothing in most frames: their time would be without a classification."""
    for c, processor in opened:
        found = sum(bool(processor.process(frame_at(i, frame)).verdicts) for i, frame in enumerate(frames))
        processor.reset()
        if 2 * found <= len(frames):
            raise InputError(
                f"the detector in {c.bundle.path} finds something in {found} of the {len(frames)} frames that are"
                f" timed: give a --source in which it finds something in most"
            )


@contextmanager
def open_side_by_side(
    candidates: Sequence[Candidate],
    open_regions: Callable[[Candidate], RegionSource] = open_timed_regions,
    config: FrameConfig | None = None,
) -> Iterator[tuple[list[Opened], list[Unmeasured]]]:
    """Open every candidate, and close them all at the end; yield them, and those that do not open."""
    opened: list[Opened] = []
    refused = []
    with ExitStack() as stack:
        for c in candidates:
            try:
                regions = open_regions(c)
                stack.callback(regions.close)
                backend = open_backend(c.backend, c.bundle, c.precision, batch=regions.most, threads=c.threads)
            except InputError as error:
                refused.append(Unmeasured(c.arch, c.precision, c.backend, str(error)))
                continue
            opened.append((c, FrameProcessor(c.bundle, stack.enter_context(backend), regions, config)))
        yield opened, refused


def measure_accuracy(candidate: Candidate, classifier: RegionClassifier, pack: Pack) -> Accuracy | NotMeasured:
    """Classify the test rows, where the bundle is of the pack's size."""
    if candidate.bundle.geometry != pack.geometry:
        return NotMeasured(OTHER_SIZE)
    log.info(f"accuracy: {candidate.name}")
    return score(pack.labels_n[pack.rows("test")], predict(classifier, pack), pack.classes)


def show_progress(what: str) -> Callable[[int, int], None]:
    """Return a callback that says how far `what` is, at every quarter of it, on stderr."""

    def show(done: int, total: int) -> None:
        if done * 4 // total != (done - 1) * 4 // total:
            log.info(f"{what}: {100 * done // total}%")

    return show
