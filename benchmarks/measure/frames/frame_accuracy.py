"""Accuracy on labeled frames: what the car's FrameProcessor says of every object, and of places without one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter

import numpy as np

from benchmarks.measure.candidates import Candidate
from benchmarks.measure.measured_set import open_side_by_side
from benchmarks.results.candidate import NotMeasured
from benchmarks.results.frames import FALSE_ALARM, WORST, Counts, FrameErrors, FramesAccuracy, Mark, RiskPoint
from core.clusters import dispersion
from core.data.pack import Pack, open_pack
from core.errors import InputError
from core.geometry.camera_config import CameraConfig
from core.stats import Interval, poisson_interval
from inference.frame.processor import FrameConfig
from inference.frame.regions import RegionSource
from inference.proof.frame_score import PLACES, SIZES, Outcome, ScoredFrame, ScoredObject, score_frames
from inference.runner.labeled_regions import FramesRequest, warn_of_other_classes

log = logging.getLogger(__name__)
CURVE_POINTS = 11
"""The number of thresholds, besides the shipped one: a step answers a tenth of the objects more."""


def measure_frames(
    candidates: Sequence[Candidate], pack: Pack, request: FramesRequest
) -> dict[tuple[str, str], FramesAccuracy | NotMeasured]:
    """Return {(architecture, precision): accuracy on the same frames}.

    candidates: one of each architecture and precision.
    """
    pack = open_pack(request.pack) if request.pack else pack
    frames = request.frames(pack)
    for bundle in {c.arch: c.bundle for c in candidates}.values():
        warn_of_other_classes(bundle, pack)
    log.info(f"{len(frames)} labeled frames of {pack.path}")
    what: dict[str, str] = {}

    def open_regions(candidate: Candidate, _: CameraConfig) -> RegionSource:
        what[candidate.name], regions = request.regions(
            pack, frames, candidate.bundle, candidate.backend, candidate.threads
        )
        return regions

    # side by side: each picture is read and decoded once for all
    with open_side_by_side(candidates, FrameConfig(sequence=False), open_regions) as (opened, refused):
        if len(regions := sorted({what[c.name] for c, _ in opened})) > 1:
            log.warning(f"these figures cannot be compared, the regions differ: {'; '.join(regions)}")
        scores = score_frames([(c.bundle, processor) for c, processor in opened], pack, frames)
    results: dict[tuple[str, str], FramesAccuracy | NotMeasured] = {
        (row.arch, row.precision): NotMeasured(row.reason) for row in refused
    }
    for (c, _), of_one in zip(opened, scores, strict=True):
        threshold = c.bundle.abstain_threshold
        results[c.arch, c.precision] = summarize_frames(c.backend, request.split, what[c.name], threshold, of_one)
    return results


def summarize_frames(
    backend: str, split: str, regions: str, threshold: float, scores: Sequence[ScoredFrame | str]
) -> FramesAccuracy:
    """Count the scores of all frames. threshold: the bundle's. Raises InputError when no frame could be read."""
    scored_frames = [score for score in scores if isinstance(score, ScoredFrame)]
    if not scored_frames:
        reason = f": {scores[0]}" if scores else ""
        raise InputError(f"none of the {len(scores)} labeled frames of {split} can be read{reason}")
    objects = [scored for frame in scored_frames for scored in frame.objects]
    alarms = sum(len(frame.false_alarms) for frame in scored_frames)
    per_100 = 100 / len(scored_frames)
    # a count without an upper limit: a frame can give several, which are alike
    low, high = poisson_interval(alarms, dispersion(np.array([len(frame.false_alarms) for frame in scored_frames])))
    p50_ms, p99_ms = np.quantile([frame.took_ms for frame in scored_frames], (0.5, 0.99)).tolist()
    return FramesAccuracy(
        measured_on=backend,
        split=split,
        regions=regions,
        frames=len(scored_frames),
        unreadable=len(scores) - len(scored_frames),
        objects=Counts.of(objects),
        by_class=_grouped(objects, attrgetter("label"), sorted({scored.label for scored in objects})),
        by_size=_grouped(objects, attrgetter("size"), SIZES),
        by_place=_grouped(objects, attrgetter("place"), PLACES),
        empty_regions=alarms + sum(frame.quiet for frame in scored_frames),
        false_alarms=alarms,
        false_alarms_per_100=alarms * per_100,
        false_alarms_interval=Interval(low * per_100, high * per_100),
        p50_ms=p50_ms,
        p99_ms=p99_ms,
        right_n=np.array([scored.outcome == Outcome.RIGHT for scored in objects], np.int64),
        frame_of_n=np.repeat(np.arange(len(scored_frames)), [len(frame.objects) for frame in scored_frames]),
        quiet_n=np.array([not frame.false_alarms for frame in scored_frames], np.int64),
        risk_curve=trace_risk(objects, threshold),
        worst=list_worst_frames(scored_frames),
    )


def trace_risk(objects: Sequence[ScoredObject], shipped: float) -> tuple[RiskPoint, ...]:
    """Return coverage and risk at the shipped threshold and at others, which answer ever more of the objects."""
    limits = [scored.answered_up_to for scored in objects if scored.answered_up_to > 0]
    # thresholds at quantiles give equal steps of coverage; equal steps of the threshold would leave gaps
    spread = np.quantile(limits, np.linspace(1, 0, CURVE_POINTS), method="nearest").tolist() if limits else []
    thresholds = sorted({*spread, shipped}, reverse=True)
    return tuple(RiskPoint.of(threshold, objects, shipped=threshold == shipped) for threshold in thresholds)


def list_worst_frames(scored_frames: Sequence[ScoredFrame]) -> tuple[FrameErrors, ...]:
    """Return the frames with the most objects that were not named rightly and false alarms, at most WORST."""
    found = [_errors_of(frame) for frame in scored_frames]
    with_errors = [errors for errors in found if errors.count]
    # sorted keeps the frames' order among equals, so that a report shows the same ones again
    return tuple(sorted(with_errors, key=lambda errors: -errors.count)[:WORST])


def _errors_of(scored_frame: ScoredFrame) -> FrameErrors:
    marks = []
    for scored in scored_frame.objects:
        marks.append(Mark(scored.box, scored.outcome.value, scored.label, scored.said))
    for alarm in scored_frame.false_alarms:
        marks.append(Mark(alarm.rect, FALSE_ALARM, None, alarm.label))
    frame = scored_frame.frame
    return FrameErrors(frame.source, frame.size_px, tuple(marks))


def _grouped(
    objects: Sequence[ScoredObject], key: Callable[[ScoredObject], str], names: Iterable[str]
) -> dict[str, Counts]:
    groups = {}
    for name in names:
        members = [scored for scored in objects if key(scored) == name]
        if members:
            groups[name] = Counts.of(members)
    return groups
