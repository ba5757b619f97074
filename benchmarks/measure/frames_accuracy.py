"""Accuracy on labeled frames: what the car's FrameProcessor says of every object, and of places without one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum

import numpy as np

from core.data.frames import LabeledFrame, LabeledObject, load_frame
from core.data.pack import Pack
from core.errors import InputError
from core.geometry.frame import Frame, Rect
from core.geometry.occupancy import is_empty, occupant, stands_in
from core.geometry.preprocess import crop_rect
from core.stats import Interval, poisson_interval, wilson
from inference.frame.boxes import Box, Boxes
from inference.frame.decision import Verdict
from inference.frame.processor import FrameProcessor

SMALL_PX, LARGE_PX = 32, 96
"""The side of the square of an object's area. Source: COCO's size classes."""
EDGE_PX, NEAR_EDGE = 2, 0.1
"""An object is at the edge within so many pixels of it, and near it within this part of the frame's sides."""


class Outcome(str, Enum):
    """What became of one object, from best to worst."""

    RIGHT = "right"
    SILENT = "silent"
    """The region that shows it gave no class: unsure, or it could not be seen."""
    NO_REGION = "no_region"
    """No region shows it."""
    WRONG = "wrong"
    BACKGROUND = "background"
    """The region that shows it was said to be empty."""


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
    """Regions without an object of which a class was said."""
    quiet: int
    """Regions without an object of which none was said."""
    took_ms: float


@dataclass(frozen=True)
class Counts:
    """The outcomes of some objects."""

    n: int
    outcomes: dict[str, int]
    recall: float | None
    """The share that was named rightly; None without an object."""
    interval: Interval

    @classmethod
    def of(cls, objects: Iterable[ScoredObject]) -> Counts:
        """Count the outcomes."""
        found = Counter(one.outcome.value for one in objects)
        n, right = found.total(), found[Outcome.RIGHT.value]
        return cls(n, {o.value: found[o.value] for o in Outcome}, right / n if n else None, wilson(right, n))


@dataclass(frozen=True)
class FramesAccuracy:
    """The accuracy of one processor on the labeled frames of a pack."""

    split: str
    regions: str
    """Where the regions came from."""
    frames: int
    unreadable: int
    objects: Counts
    by_class: dict[str, Counts]
    by_size: dict[str, Counts]
    by_place: dict[str, Counts]
    empty_regions: int
    false_alarms: int
    false_alarms_per_100: float
    """Of 100 frames."""
    false_alarms_interval: Interval
    frame_ms: dict[str, float] = field(default_factory=dict)
    """p50 and p99 of the whole step."""


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
    empty = [v for v, at in zip(verdicts, shown, strict=True) if at is None and is_empty(v.rect, boxes)]
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
    processor: FrameProcessor,
    pack: Pack,
    frames: Sequence[LabeledFrame],
    background: str | None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[ScoredFrame | str]:
    """Yield the score of each frame as the car would process it, or the reason why it cannot be read."""
    for number, frame in enumerate(frames):
        pixels = load_frame(pack, frame)
        progress(number + 1, len(frames))
        if isinstance(pixels, str):
            yield pixels
            continue
        result = processor.process(Frame(number, 0, pixels, name=frame.source))
        fixed, took_ms = processor.regions.fixed, result.timings.total_ns / 1e6
        yield score_frame(frame, result.verdicts, background, fixed=fixed, took_ms=took_ms)


def summarize(split: str, regions: str, scores: Sequence[ScoredFrame | str]) -> FramesAccuracy:
    """Count the scores of all frames. Raises InputError when no frame could be read."""
    scored = [one for one in scores if isinstance(one, ScoredFrame)]
    if not scored:
        raise InputError(
            f"none of the {len(scores)} labeled frames of {split} can be read: {scores[0] if scores else ''}"
        )
    objects = [one for frame in scored for one in frame.objects]
    alarms, per_100 = sum(len(frame.false_alarms) for frame in scored), 100 / len(scored)
    low, high = poisson_interval(alarms)
    times_ms = np.array([frame.took_ms for frame in scored])
    return FramesAccuracy(
        split=split,
        regions=regions,
        frames=len(scored),
        unreadable=len(scores) - len(scored),
        objects=Counts.of(objects),
        by_class=_grouped(objects, lambda one: one.label),
        by_size=_grouped(objects, lambda one: one.size),
        by_place=_grouped(objects, lambda one: one.place),
        empty_regions=alarms + sum(frame.quiet for frame in scored),
        false_alarms=alarms,
        false_alarms_per_100=alarms * per_100,
        false_alarms_interval=Interval(low * per_100, high * per_100),
        frame_ms={name: float(np.quantile(times_ms, q)) for name, q in (("p50", 0.5), ("p99", 0.99))},
    )


def _grouped(objects: Sequence[ScoredObject], key: Callable[[ScoredObject], str]) -> dict[str, Counts]:
    return {name: Counts.of(one for one in objects if key(one) == name) for name in sorted(set(map(key, objects)))}


def labeled_boxes(frames: Iterable[LabeledFrame], margin: float) -> Boxes:
    """Return the labeled boxes with their context as regions, in place of a detector that finds every object."""
    return Boxes({frame.source: tuple(_as_box(frame, at, margin) for at in _counted(frame)) for frame in frames})


def _counted(frame: LabeledFrame) -> Iterator[int]:
    return (at for at, one in enumerate(frame.objects) if one.ignored is None)


def _as_box(frame: LabeledFrame, at: int, margin: float) -> Box:
    one: LabeledObject = frame.objects[at]
    return Box(crop_rect(one.box, margin, *frame.size_px), f"object{at}", one.label)
