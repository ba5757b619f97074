"""Accuracy on labeled frames: what the car's FrameProcessor says of every object, and of places without one."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from benchmarks.measure.candidates import Candidate
from benchmarks.measure.frames.request import FramesRequest
from benchmarks.measure.frames.score import ScoredFrame, score_frame, summarize
from benchmarks.measure.measured_set import open_side_by_side
from benchmarks.results.candidate import NotMeasured
from benchmarks.results.frames import FramesAccuracy
from core.bundle.contract import Bundle
from core.data.frames import LabeledFrame, load_frame
from core.data.pack import Pack, open_pack
from core.geometry.frame import Frame
from inference.frame.processor import FrameConfig, FrameProcessor
from inference.frame.regions import RegionSource

log = logging.getLogger(__name__)


def score_frames(
    processors: Sequence[tuple[Bundle, FrameProcessor]], pack: Pack, frames: Sequence[LabeledFrame]
) -> list[list[ScoredFrame | str]]:
    """Return the score of each frame by each processor, as the car would process it, or why it cannot be read."""
    scores: list[list[ScoredFrame | str]] = [[] for _ in processors]
    for number, frame in enumerate(frames):
        pixels = load_frame(pack, frame)
        for of_one, (bundle, processor) in zip(scores, processors, strict=True):
            if isinstance(pixels, str):
                of_one.append(pixels)
                continue
            result = processor.process(Frame(number, 0, pixels, name=frame.source))
            fixed, took_ms = processor.regions.fixed, result.timings.total_ns / 1e6
            of_one.append(score_frame(frame, result.verdicts, bundle.background, fixed=fixed, took_ms=took_ms))
    return scores


def measure_frames(
    candidates: Sequence[Candidate], pack: Pack, request: FramesRequest
) -> dict[tuple[str, str], FramesAccuracy | NotMeasured]:
    """Return {(architecture, precision): accuracy on the same frames}.

    candidates: one of each architecture and precision.
    """
    pack = open_pack(request.pack) if request.pack else pack
    frames = request.frames(pack)
    for arch, bundle in {c.arch: c.bundle for c in candidates}.items():
        if other := sorted({*bundle.classes} ^ {*pack.classes}):
            log.warning(f"{arch} and {pack.path} differ in the classes {', '.join(other)}: none of these can be right")
    log.info(f"{len(frames)} labeled frames of {pack.path}")
    what: dict[str, str] = {}

    def open_regions(candidate: Candidate) -> RegionSource:
        what[candidate.name], regions = request.regions(pack, frames, candidate)
        return regions

    with open_side_by_side(candidates, open_regions, FrameConfig(sequence=False)) as (opened, refused):
        scores = score_frames([(c.bundle, processor) for c, processor in opened], pack, frames)
    results: dict[tuple[str, str], FramesAccuracy | NotMeasured] = {
        (row.arch, row.precision): NotMeasured(row.reason) for row in refused
    }
    for (c, _), of_one in zip(opened, scores, strict=True):
        results[c.arch, c.precision] = summarize(c.backend, request.split, what[c.name], of_one)
    return results
