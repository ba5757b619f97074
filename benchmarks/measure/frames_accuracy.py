"""Accuracy on labeled frames: what the car's FrameProcessor says of every object, and of places without one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.frame_results import Counts, FramesAccuracy, Outcome
from benchmarks.measure.candidates import Candidate
from benchmarks.measure.measured_set import open_side_by_side
from benchmarks.results import NotMeasured
from core.bundle.contract import Bundle
from core.data.frames import LabeledFrame, load_frame, read_frames, read_zones
from core.data.pack import Pack, open_pack
from core.errors import InputError
from core.geometry.camera_config import Camera, read_camera
from core.geometry.frame import Frame, Rect
from core.geometry.occupancy import is_empty, occupant, stands_in
from core.geometry.preprocess import crop_rect
from core.stats import Interval, poisson_interval
from inference.frame.boxes import Box, Boxes
from inference.frame.decision import Verdict
from inference.frame.detection.detector import open_detector
from inference.frame.detection.tracked_regions import TrackedRegions
from inference.frame.processor import FrameConfig, FrameProcessor
from inference.frame.regions import RegionSource, Zones
from inference.runner.region_choice import find_detector, pick_detector

log = logging.getLogger(__name__)

SMALL_PX, LARGE_PX = 32, 96
"""Limits of small, medium and large, on the square root of an object's area. Source: COCO's size classes."""
EDGE_PX, NEAR_EDGE = 2, 0.1
"""At the edge: within EDGE_PX pixels of it. Near the edge: within this part of the frame's shorter side."""


@dataclass(frozen=True, slots=True)
class ScoredObject:
    """One object that counts, and what was said of it."""

    label: str
    box: Rect
    size_px: tuple[int, int]
    """Width and height of the frame."""
    outcome: Outcome
    said: str | None

    @property
    def size(self) -> str:
        """small, medium or large."""
        side = ((self.box[2] - self.box[0]) * (self.box[3] - self.box[1])) ** 0.5
        return "small" if side < SMALL_PX else "medium" if side < LARGE_PX else "large"

    @property
    def place(self) -> str:
        """At the edge of the frame, near it, or inside."""
        (x0, y0, x1, y1), (width, height) = self.box, self.size_px
        gap = min(x0, y0, width - x1, height - y1)
        near = gap < NEAR_EDGE * min(width, height)
        return "at the edge" if gap <= EDGE_PX else "near the edge" if near else "inside"


@dataclass(frozen=True, slots=True)
class ScoredFrame:
    """One frame: its objects, and the regions that show none."""

    frame: LabeledFrame
    verdicts: tuple[Verdict, ...]
    objects: tuple[ScoredObject, ...]
    false_alarms: tuple[Verdict, ...]
    """Regions without an object that were given a class."""
    quiet: int
    """The number of regions without an object that were given no class."""
    took_ms: float


def score_frame(
    frame: LabeledFrame, verdicts: Sequence[Verdict], background: str | None, *, fixed: bool, took_ms: float = 0.0
) -> ScoredFrame:
    """Hold the verdicts of a frame against its objects, by the rule of core/geometry/occupancy.py."""
    boxes = [one.box for one in frame.objects]
    shown = [occupant(verdict.rect, boxes, fixed=fixed) for verdict in verdicts]
    objects = tuple(
        _score_object(frame, at, verdicts, shown, background)
        for at, one in enumerate(frame.objects)
        if one.ignored is None
    )
    others = [verdict for verdict, at in zip(verdicts, shown, strict=True) if at is None]
    empty = [verdict for verdict in others if is_empty(verdict.rect, boxes)]
    alarms = tuple(v for v in empty if v.label not in (None, background))
    return ScoredFrame(frame, tuple(verdicts), objects, alarms, len(empty) - len(alarms), took_ms)


def _score_object(
    frame: LabeledFrame, at: int, verdicts: Sequence[Verdict], shown: Sequence[int | None], background: str | None
) -> ScoredObject:
    """Take the best that was said: by a region that shows the object, or rightly by one in which it stands too.

    A region says one class. So an object that is hidden behind what fills the region more is right when the two are of
    one class, and has no region of its own otherwise.
    """
    one = frame.objects[at]
    own = [verdict.label for verdict, of in zip(verdicts, shown, strict=True) if of == at]
    others = (verdict.label for verdict in verdicts if stands_in(verdict.rect, one.box))
    said = next((label for label in own if label not in (None, background)), None)
    if one.label in (*own, *others):
        outcome, said = Outcome.RIGHT, one.label
    elif not own:
        outcome = Outcome.NO_REGION
    elif said is not None:
        outcome = Outcome.WRONG
    else:
        outcome = Outcome.SILENT if None in own else Outcome.BACKGROUND
    return ScoredObject(one.label, one.box, frame.size_px, outcome, said)


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


def summarize(backend: str, split: str, regions: str, scores: Sequence[ScoredFrame | str]) -> FramesAccuracy:
    """Count the scores of all frames. Raises InputError when no frame could be read."""
    scored = [one for one in scores if isinstance(one, ScoredFrame)]
    if not scored:
        reason = f": {scores[0]}" if scores else ""
        raise InputError(f"none of the {len(scores)} labeled frames of {split} can be read{reason}")
    objects = [one for frame in scored for one in frame.objects]
    alarms, per_100 = sum(len(frame.false_alarms) for frame in scored), 100 / len(scored)
    low, high = poisson_interval(alarms)
    p50_ms, p99_ms = np.quantile([frame.took_ms for frame in scored], (0.5, 0.99)).tolist()
    return FramesAccuracy(
        measured_on=backend,
        split=split,
        regions=regions,
        frames=len(scored),
        unreadable=len(scores) - len(scored),
        objects=Counts.of(one.outcome for one in objects),
        by_class=_grouped(objects, lambda one: one.label),
        by_size=_grouped(objects, lambda one: one.size),
        by_place=_grouped(objects, lambda one: one.place),
        empty_regions=alarms + sum(frame.quiet for frame in scored),
        false_alarms=alarms,
        false_alarms_per_100=alarms * per_100,
        false_alarms_interval=Interval(low * per_100, high * per_100),
        p50_ms=p50_ms,
        p99_ms=p99_ms,
    )


def _grouped(objects: Sequence[ScoredObject], key: Callable[[ScoredObject], str]) -> dict[str, Counts]:
    names = sorted(set(map(key, objects)))
    return {name: Counts.of(one.outcome for one in objects if key(one) == name) for name in names}


@dataclass(frozen=True)
class FramesRequest:
    """Which labeled frames are measured, and with which regions."""

    pack: Path | None = None
    """None: the run's own pack."""
    split: str = "test"
    camera: Path | None = None
    """A camera.json, whose zones or detector give the regions; None: as `regions` says."""
    detector: Path | None = None
    """An ONNX file whose boxes are the regions, with the settings of camera.json where there are some."""
    labeled: bool = False
    """Take the labeled boxes as regions, as of a detector that finds every object."""
    jitter: float = 0.0
    """Standard deviation by which each edge of a labeled box is moved, as a part of the box's side."""
    most: int | None = None
    """The most frames; None for all."""

    def __post_init__(self) -> None:
        if not 0 <= self.jitter <= 1:
            raise InputError(f"jitter is {self.jitter}: give a part of a box's side, such as 0.1")
        if self.labeled and self.detector:
            raise InputError("there is --detector and there is --labeled-boxes: give one of the two")

    def frames(self, pack: Pack) -> list[LabeledFrame]:
        """Return the frames, a random part of the split where it has too many. Raises InputError where it has none."""
        frames = read_frames(pack, self.split)
        if not frames:
            raise InputError(f"{pack.path} has no labeled frame in {self.split}: choose another split")
        order = np.random.default_rng(0).permutation(len(frames))[: self.most]
        return [frames[at] for at in sorted(order.tolist())]

    def regions(self, pack: Pack, frames: Sequence[LabeledFrame], candidate: Candidate) -> tuple[str, RegionSource]:
        """Return what the regions of a candidate are, in a few words, and the regions, opened.

        The first that is there of: labeled boxes, where they are asked for; the detector or the zones that were given;
        the bundle's detector; the zones that the pack's rows are; labeled boxes.
        """
        camera = read_camera(self.camera) if self.camera else Camera()
        given = pick_detector(camera, self.detector)
        if not self.labeled and (detector := given or find_detector(candidate.bundle, camera)):
            opened = open_detector(detector, candidate.backend, candidate.threads)
            what = f"the boxes of {detector.path.name if given else 'the detector in the bundle'}"
            return what, TrackedRegions(opened, sequence=False)
        if self.camera and not camera.zones:
            raise InputError(f"{self.camera} has no zones: name the rectangles that are classified")
        zones, what = (
            camera.zones or read_zones(pack),
            f"the zones of {self.camera.name if self.camera else 'the pack'}",
        )
        if zones and not self.labeled:
            return what, Zones(zones)
        what = f"the labeled boxes, jittered by {self.jitter:g}" if self.jitter else "the labeled boxes"
        return what, labeled_boxes(frames, float(pack.facts["options"]["margin"]), self.jitter)


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


def labeled_boxes(frames: Iterable[LabeledFrame], margin: float, jitter: float = 0.0) -> Boxes:
    """Return the labeled boxes with their context as regions, in place of a detector that finds every object."""
    random = np.random.default_rng(0)
    return Boxes({frame.source: tuple(_boxes_of(frame, margin, jitter, random)) for frame in frames})


def _boxes_of(frame: LabeledFrame, margin: float, jitter: float, random: np.random.Generator) -> Iterator[Box]:
    for number, one in enumerate(frame.objects):
        if one.ignored is None:
            box = jittered(one.box, jitter, random)
            yield Box(crop_rect(box, margin, *frame.size_px), f"object{number}", one.label)


def jittered(box: Rect, jitter: float, random: np.random.Generator) -> Rect:
    """Return a box whose edges are moved, each by a normal deviate of `jitter` sides; at least a pixel is left."""
    width, height = box[2] - box[0], box[3] - box[1]
    left, top, right, bottom = (
        np.round(random.normal(0, jitter, 4) * (width, height, width, height)).astype(int).tolist()
    )
    x0, y0 = min(box[0] + left, box[2] - 1), min(box[1] + top, box[3] - 1)
    return x0, y0, max(box[2] + right, x0 + 1), max(box[3] + bottom, y0 + 1)
