"""The score of a labeled frame: what was said of every object, and of the places without one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np

from core.bundle.abstain import AbstainRule
from core.bundle.contract import Bundle
from core.data.labeled_frames import LabeledFrame, load_frame
from core.data.pack import Pack
from core.geometry.frame import Frame, Rect
from core.geometry.occupancy import is_empty, occupant, stands_in
from core.stats import Bools, Ints
from inference.frame.decision import Verdict
from inference.frame.processor import FrameProcessor
from inference.frame.states import RANK, State

SMALL_PX, LARGE_PX = 32, 96
"""Limits of small, medium and large, on the square root of an object's area. Source: COCO's size classes."""
SIZES = ("small", "medium", "large")
PLACES = ("at the edge", "near the edge", "inside")
EDGE_PX, NEAR_EDGE = 2, 0.1
"""At the edge: within EDGE_PX pixels of it. Near the edge: within this part of the frame's shorter side."""


class Outcome(str, Enum):
    """The outcome of one object, from best to worst."""

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
    silence: str | None = None
    """What keeps its region silent where the outcome is SILENT: its reason, or the state, such as UNKNOWN."""
    has_region: bool = True
    """Whether a region of its own shows it."""
    answered_up_to: float = 0.0
    """The highest abstain threshold at which it is answered, rightly or not; 0 where it is at none."""
    right_up_to: float = 0.0
    """The highest abstain threshold at which it is answered rightly; 0 where it is at none."""
    frame: str = ""
    """The picture that shows it."""

    @property
    def size(self) -> str:
        """small, medium or large."""
        x0, y0, x1, y1 = self.box
        side = ((x1 - x0) * (y1 - y0)) ** 0.5
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
    failure: str = ""
    """Why the regions could not be found; empty where they could."""


def score_frame(
    frame: LabeledFrame, verdicts: Sequence[Verdict], background: str | None, *, fixed: bool, took_ms: float = 0.0
) -> ScoredFrame:
    """Compare the verdicts of a frame with its objects, by the rule of core/geometry/occupancy.py."""
    boxes = [labeled.box for labeled in frame.objects]
    occupants = [occupant(verdict.rect, boxes, fixed=fixed) for verdict in verdicts]
    objects = []
    for at, labeled in enumerate(frame.objects):
        if labeled.ignored is None:
            objects.append(_score_object(frame, at, verdicts, occupants, background))
    others = [verdict for verdict, at in zip(verdicts, occupants, strict=True) if at is None]
    # a region that shows no object may still touch one, ignored ones too: what is said there is neither right nor wrong
    empty = [verdict for verdict in others if is_empty(verdict.rect, boxes)]
    alarms = tuple(verdict for verdict in empty if verdict.label not in (None, background))
    return ScoredFrame(frame, tuple(verdicts), tuple(objects), alarms, len(empty) - len(alarms), took_ms)


def _score_object(
    frame: LabeledFrame, at: int, verdicts: Sequence[Verdict], occupants: Sequence[int | None], background: str | None
) -> ScoredObject:
    """Return the best answer about an object: that of a region that shows it, or the right one of any it stands in.

    A region names one class. An object behind another one that fills more of the region is therefore right when the two
    are of one class, and has no region of its own otherwise.
    """
    labeled = frame.objects[at]
    own = [verdict for verdict, of in zip(verdicts, occupants, strict=True) if of == at]
    # a second region that also shows a part of it may name it, but counts for nothing when it names another class
    near = own + [verdict for verdict in verdicts if stands_in(verdict.rect, labeled.box)]
    said = next((verdict.label for verdict in own if verdict.label not in (None, background)), None)
    quiet = min((verdict for verdict in own if verdict.label is None), key=lambda v: RANK[v.state], default=None)
    silence = None if quiet is None else quiet.reason or quiet.state.value
    # from the best outcome down: several regions may show one object
    if labeled.label in [verdict.label for verdict in near]:
        outcome, said = Outcome.RIGHT, labeled.label
    elif not own:
        outcome = Outcome.NO_REGION
    elif said is not None:
        outcome = Outcome.WRONG
    else:
        outcome = Outcome.SILENT if silence else Outcome.BACKGROUND
    limits = _limits(labeled.label, own, near, background)
    silence = silence if outcome == Outcome.SILENT else None
    return ScoredObject(
        labeled.label, labeled.box, frame.size_px, outcome, said, silence, bool(own), *limits, frame.source
    )


def _limits(label: str, own: list[Verdict], near: list[Verdict], background: str | None) -> tuple[float, float]:
    """Return the highest thresholds at which an object is answered, and answered rightly; own, near: its regions."""
    right = wrong = absent = 0.0
    for verdict in near:
        if verdict.top == label:
            right = max(right, _sureness(verdict))
    for verdict in own:
        if verdict.top not in (label, background):
            wrong = max(wrong, _sureness(verdict))
    # an object is said to be absent only where every region that shows it says so
    if all(verdict.top == background for verdict in own):
        absent = min(map(_sureness, own), default=0.0)
    return max(right, wrong, absent), right


def _sureness(verdict: Verdict) -> float:
    """Return the probability that is compared with the threshold; 0 where something else keeps the region silent."""
    return verdict.prob if verdict.state in (State.OK, State.UNKNOWN) and not verdict.reason else 0.0


def count_answers(objects: Sequence[ScoredObject], thresholds: Sequence[float]) -> tuple[Ints, Ints]:
    """Return at each abstain threshold how many of the objects that a region shows are answered, and how many wrongly.

    An object that is said to be absent is answered wrongly.
    """
    with_region = [scored for scored in objects if scored.has_region]
    answered_n = np.array([scored.answered_up_to for scored in with_region])
    right_n = np.array([scored.right_up_to for scored in with_region])
    rules = [AbstainRule(threshold) for threshold in thresholds]
    answered_t = np.array([rule.accepts_each(answered_n).sum() for rule in rules], np.int64)
    return answered_t, answered_t - [rule.accepts_each(right_n).sum() for rule in rules]


def mark_answers(objects: Sequence[ScoredObject], threshold: float) -> tuple[Bools, Bools]:
    """Return which of the objects that a region shows are answered at an abstain threshold, and which wrongly."""
    with_region = [scored for scored in objects if scored.has_region]
    rule = AbstainRule(threshold)
    answered_n = rule.accepts_each(np.array([scored.answered_up_to for scored in with_region]))
    return answered_n, answered_n & ~rule.accepts_each(np.array([scored.right_up_to for scored in with_region]))


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
            fixed = processor.region_source.fixed
            took_ms = result.timings.total_ns / 1e6
            score = score_frame(frame, result.verdicts, bundle.background, fixed=fixed, took_ms=took_ms)
            # with verdicts, their own reasons say it
            of_one.append(score if result.verdicts else replace(score, failure=result.reason))
    return scores
