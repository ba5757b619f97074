"""Measure candidates that are open at the same time: accuracy one after the other, then latency in turns."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from filecmp import cmp as same_bytes

from benchmarks.measure.accuracy import check_same_data, predict, score
from benchmarks.measure.candidates import Candidate
from benchmarks.measure.speed.latency import frame_at, measure_noise, take_turns
from benchmarks.measure.speed.timed_frames import EGO, TimedInput
from benchmarks.results.candidate import Accuracy, CandidateResult, Latency, NotMeasured, Unmeasured
from benchmarks.results.run import Noise
from core.bundle.golden_file import GoldenCheck
from core.data.pack import Pack
from core.errors import InputError, as_device_error
from core.geometry.camera_config import CameraConfig
from core.geometry.frame import Bytes
from inference.backends import Backend, UnavailableError
from inference.frame.classifier import RegionClassifier, open_classifier
from inference.frame.detection.detector import open_detector_or_on_cpu
from inference.frame.detection.tracked_regions import TrackedRegions
from inference.frame.processor import FrameConfig, FrameProcessor
from inference.frame.regions import RegionSource, Zones
from inference.proof import detector_run
from inference.proof.verify import prove_backend
from inference.runner.region_choice import find_detector

log = logging.getLogger(__name__)
Opened = tuple[Candidate, FrameProcessor]

OTHER_SIZE = "it was exported at another size than it was trained at: for latency only"


@dataclass(frozen=True)
class SideBySide:
    """The results of candidates that were measured side by side, and the noise of their timing."""

    results: tuple[CandidateResult, ...]
    noise: Noise
    refused: tuple[Unmeasured, ...]
    """Candidates that could not be opened."""


def measure_side_by_side(candidates: Sequence[Candidate], pack: Pack, timed: TimedInput, *, samples: int) -> SideBySide:
    """Measure accuracy and latency of every candidate. The first one that opens is opened again, as the A/A control."""
    check_files(candidates, pack)
    with open_side_by_side(candidates, timed.config) as (opened, refused):
        if not opened:
            raise InputError(f"no candidate opens; the first reason: {refused[0].reason}")
        check_detections(opened, timed.frames)
        # before the timing: it runs the golden frames, which an engine must pass to be chosen
        reasons = [prove_selectable(c, p.classifier.backend) for c, p in opened]
        answers = [measure_accuracy(c, p.classifier, pack) for c, p in opened]
        # the control is timed among the others: alone it would meet warmer caches, and its noise would not be theirs
        with open_side_by_side([opened[0][0]], timed.config) as (control, _):
            processors = [processor for _, processor in [*opened, *control]]
            *latencies, again = take_turns(processors, timed.frames, samples=samples, what="latency")
        results = []
        for (candidate, processor), latency, accuracy, reason in zip(opened, latencies, answers, reasons, strict=True):
            results.append(result_of(candidate, describe_opened(processor), latency, accuracy, reason))
    return SideBySide(tuple(results), measure_noise(results[0].name, latencies, again), tuple(refused))


def describe_opened(processor: FrameProcessor) -> dict[str, object]:
    """Return the description of an open backend, and of the detector in front of it."""
    facts = processor.classifier.backend.describe()
    if isinstance(source := processor.region_source, TrackedRegions):
        facts |= {"detector": {"backend": source.detector.backend, "file": source.detector.opened}}
    return facts


def result_of(
    candidate: Candidate, opened: dict[str, object], latency: Latency, accuracy: Accuracy | NotMeasured, why_not: str
) -> CandidateResult:
    """Return the result of a candidate. Later measurements replace its NotMeasured values."""
    c = candidate
    size = c.bundle.geometry.size_px, c.size_bytes(str(opened["file"]))
    return CandidateResult(c.arch, c.precision, c.backend, c.threads, *size, opened, latency, why_not, accuracy)


def prove_selectable(candidate: Candidate, backend: Backend) -> str:
    """Prove that a candidate may be chosen; return the reason why it never may, or an empty text."""
    if not candidate.bundle.selectable:
        return OTHER_SIZE
    if not candidate.passed_gates:
        return f"{candidate.precision} is not among the precisions that passed the gates of its bundle"
    return prove_on_device(candidate, backend)


def prove_on_device(candidate: Candidate, backend: Backend) -> str:
    """Run the golden frames, and write the proof of an engine; return the reason of a failure, or an empty text."""
    c = candidate
    try:
        checks = [*prove_backend(c.bundle, c.backend, backend, c.precision), *check_detector(c)]
        failed = [check for check in checks if not check.passed]
    except Exception as error:  # each runtime has exceptions of its own, with no common base
        return f"it is not proved on this device: {as_device_error(error, c.name)}"
    if failed:
        first = failed[0]
        return f"its golden frames fail on this device: {first.check} is {first.value:.3g}, not under {first.limit:g}"
    return "" if backend.proved else "it is not proved on this device: the proof cannot be written beside its engine"


def check_detector(candidate: Candidate) -> tuple[GoldenCheck, ...]:
    """Run the golden frames of the bundle's detector, which proves its engine; no row where the backend runs none."""
    with suppress(UnavailableError):  # it runs on the CPU, where `add-detector` proved it
        return detector_run.check_file(candidate.bundle, candidate.backend, candidate.threads)
    return ()


def check_files(candidates: Sequence[Candidate], pack: Pack) -> None:
    """Raise InputError for a damaged file or a pack of other classes, before anything is measured."""
    for bundle in {c.arch: c.bundle for c in candidates}.values():
        check_same_data(pack, bundle)
        bundle.check_files()


def open_timed_regions(candidate: Candidate, camera: CameraConfig) -> RegionSource:
    """Return the timed regions: those of the camera, else tracked boxes of the bundle's detector, else one zone."""
    own = find_detector(candidate.bundle, replace(camera, detector=None))
    given = camera.detector
    # bundles with the same detector are timed each with its own copy: the engine beside it is the one that ships
    same = own and given and own.config == given.config and same_bytes(own.path, given.path, shallow=False)
    if detector := own if same else given or own:
        return TrackedRegions(open_detector_or_on_cpu(detector, candidate.backend, candidate.threads))
    return Zones(camera.zones or EGO)


def check_detections(opened: Sequence[Opened], frames: Sequence[Bytes]) -> None:
    """Raise InputError when a detector finds nothing in most frames, whose time would hold no classification."""
    for c, processor in opened:
        found = sum(bool(processor.process(frame_at(i, frame)).verdicts) for i, frame in enumerate(frames))
        processor.reset()  # tracks and smoothing of this pass must not reach the timed one
        if 2 * found <= len(frames):
            raise InputError(
                f"the detector before {c.name} finds something in only {found} of the {len(frames)} frames to time:"
                " give a --source with an object in most frames"
            )


@contextmanager
def open_side_by_side(
    candidates: Sequence[Candidate],
    config: FrameConfig = FrameConfig(),  # noqa: B008 - frozen
    open_regions: Callable[[Candidate, CameraConfig], RegionSource] = open_timed_regions,
) -> Iterator[tuple[list[Opened], list[Unmeasured]]]:
    """Open every candidate and close them all at the end; yield those that open, and those that do not."""
    opened: list[Opened] = []
    refused = []
    with ExitStack() as stack:
        for c in candidates:
            try:
                # its largest number of regions is the batch of the backend
                regions = open_regions(c, config.camera)
                stack.callback(regions.close)
                backend = open_classifier(regions, c.backend, c.bundle, c.precision, c.threads)
            except InputError as error:  # one that does not open must not stop the others
                refused.append(Unmeasured(c.arch, c.precision, c.backend, str(error)))
                continue
            opened.append((c, FrameProcessor(c.bundle, stack.enter_context(backend), regions, config)))
        yield opened, refused


def measure_accuracy(candidate: Candidate, classifier: RegionClassifier, pack: Pack) -> Accuracy | NotMeasured:
    """Classify the test rows; not measured where the bundle has another input size than the pack."""
    if candidate.bundle.geometry != pack.geometry:
        return NotMeasured(OTHER_SIZE)
    log.info(f"accuracy: {candidate.name}")
    return score(pack.labels_n[pack.rows("test")], predict(classifier, pack), pack.classes)
