"""The field: every candidate open at once with an A/A twin, measured for accuracy and then in turns for latency."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from benchmarks.measure.accuracy import Predictions, check_same_data, predict
from benchmarks.measure.candidates import Candidate, Unmeasured
from benchmarks.measure.speed.latency import Noise, Samples, judge_noise, take_turns, zone_processor
from core.data.pack import Pack
from core.errors import InputError, as_device_error
from core.geometry.frame import Bytes
from inference.backends import Backend, open_backend
from inference.frame.classifier import RegionClassifier
from inference.frame.processor import FrameProcessor
from inference.proof.verify import prove

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Measured:
    """A candidate with what was measured of it."""

    candidate: Candidate
    opened: dict[str, Any]
    """What the open backend says of itself."""
    predictions: Predictions | None
    """None for a bundle of another size than the pack's."""
    samples: Samples
    unproved: str = ""
    """Why its golden frames are not known to hold on this file and device; empty where they do."""


@dataclass(frozen=True)
class Field:
    """All that was measured side by side in one run."""

    measured: list[Measured]
    noise: Noise
    refused: list[Unmeasured] = field(default_factory=list)
    """Candidates that their backend did not open."""


def measure_field(candidates: Sequence[Candidate], pack: Pack, frames: Sequence[Bytes], *, samples: int) -> Field:
    """Measure accuracy and latency of every candidate; the first one that opens runs twice, as the A/A pair."""
    check_files(candidates, pack)
    with open_field(candidates) as (opened, refused):
        if not opened:
            raise InputError(f"no candidate opens; the first reason: {refused[0].reason}")
        unproved = [why_unproved(c, p.classifier.backend) for c, p in opened]
        predictions = [_predict(c, p.classifier, pack) for c, p in opened]
        with open_field([opened[0][0]]) as (twin, _):
            processors = [one for _, one in [*opened, *twin]]
            taken = take_turns(processors, frames, samples=samples, on_round=show_progress("latency"))
        measured = [
            Measured(c, one.classifier.backend.describe(), said, timed, reason)
            for (c, one), said, timed, reason in zip(opened, predictions, taken, unproved, strict=False)
        ]
    return Field(measured, judge_noise(taken[0], taken[-1], taken), refused)


def why_unproved(candidate: Candidate, backend: Backend) -> str:
    """Drive the golden frames, which proves an engine; return why the candidate stays unproved, or nothing."""
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


@contextmanager
def open_field(
    candidates: Sequence[Candidate],
) -> Iterator[tuple[list[tuple[Candidate, FrameProcessor]], list[Unmeasured]]]:
    """Open every candidate at batch 1 and close them all; those that their backend refuses are returned with why."""
    opened: list[tuple[Candidate, FrameProcessor]] = []
    refused = []
    with ExitStack() as stack:
        for c in candidates:
            try:
                backend = open_backend(c.backend, c.bundle, c.precision, batch=1, threads=c.threads)
            except InputError as error:
                refused.append(Unmeasured(c.arch, c.precision, c.backend, str(error), {}))
                continue
            opened.append((c, zone_processor(c.bundle, stack.enter_context(backend))))
        yield opened, refused


def _predict(candidate: Candidate, classifier: RegionClassifier, pack: Pack) -> Predictions | None:
    if candidate.bundle.geometry != pack.geometry:
        return None
    log.info(f"accuracy: {candidate.name}")
    return predict(classifier, pack)


def show_progress(what: str) -> Callable[[int, int], None]:
    """Return a callback that says how far `what` is, at every quarter of it, on stderr."""

    def show(done: int, total: int) -> None:
        if done * 4 // total != (done - 1) * 4 // total:
            log.info(f"{what}: {100 * done // total}%")

    return show
