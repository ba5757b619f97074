"""Processes one frame: orientation, regions, quality, classification, decision. The car and the benchmark share it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter_ns

import numpy as np

from core.bundle.abstain import AbstainRule
from core.bundle.contract import Bundle, Probs
from core.errors import check_positive
from core.geometry.camera_config import CameraConfig
from core.geometry.frame import Bytes, Frame, Rect
from inference.backends import Backend
from inference.frame.classifier import RegionClassifier
from inference.frame.decider import Decider
from inference.frame.decision import Verdict
from inference.frame.orientation import FrameOrientation
from inference.frame.quality import FrameQuality
from inference.frame.regions import RegionSource
from inference.frame.smoothing import SmoothingConfig, TemporalSmoother
from inference.frame.states import State

NO_PROBS = np.zeros((0, 1), np.float32)


@dataclass(frozen=True)
class FrameConfig:
    """The settings of the frame step that are not in the bundle."""

    camera: CameraConfig = field(default_factory=CameraConfig)
    """The mounting of the camera: rotation, crop and mirror; its zones and its detector are not read here."""
    smoothing: SmoothingConfig | None = field(default_factory=SmoothingConfig)
    """The smoothing of probabilities over time; None takes each frame by itself."""
    sequence: bool = True
    """Frames follow each other; unrelated pictures (False) are neither smoothed nor found frozen."""
    frozen_s: float = 0.3
    """The picture is frozen when it has been bit-identical for this long, in three frames or more."""
    allow_unproved: bool = False
    """Name classes in fixed zones although the model has no background class."""

    def __post_init__(self) -> None:
        check_positive(frozen_s=self.frozen_s)


@dataclass(frozen=True, slots=True)
class Timings:
    """Durations of the stages of one frame."""

    detect_ns: int
    """Finding the regions; 0 for fixed zones."""
    pre_ns: int
    """Crops and their resizing; 0 without a region."""
    infer_ns: int
    """The network's call; 0 without a region."""
    total_ns: int

    @property
    def rest_ns(self) -> int:
        """Everything else: orientation, zones, quality, smoothing, verdicts."""
        return self.total_ns - self.detect_ns - self.pre_ns - self.infer_ns


@dataclass(frozen=True, slots=True)
class FrameResult:
    """The result of one frame."""

    frame: Frame
    picture_bgr: Bytes
    """The frame upright, uint8 (H, W, 3), valid until the next frame is read or processed."""
    verdicts: tuple[Verdict, ...]
    state: State
    reason: str
    """The reason of the state; empty where the verdicts alone give it."""
    timings: Timings


class FrameProcessor:
    """Turns a frame upright, finds its regions, checks its quality, classifies the regions and decides.

    One thread; buffers are reused from frame to frame.
    """

    def __init__(
        self, bundle: Bundle, backend: Backend, region_source: RegionSource, config: FrameConfig | None = None
    ) -> None:
        config = config or FrameConfig()
        self.classes = bundle.classes
        self.region_source = region_source
        self.classifier = RegionClassifier(bundle, backend)
        # a name must mean the same object in the next frame, or probabilities of different objects would be mixed
        self.smoothing = config.smoothing if config.sequence and region_source.persistent else None
        """The smoothing that is in effect; None where each frame is taken by itself."""
        self._orientation = FrameOrientation(config.camera)
        # two pictures of a folder may well be the same
        self._quality = FrameQuality(frozen_s=config.frozen_s if config.sequence else None)
        rule = AbstainRule(bundle.abstain_threshold)
        smoother = TemporalSmoother(self.smoothing, rule) if self.smoothing else None
        unproved = is_unproved(bundle, region_source) and not config.allow_unproved
        self._decider = Decider(bundle.classes, rule, smoother, unproved=unproved)

    def process(self, frame: Frame) -> FrameResult:
        """Return the result of one frame. Raises DeviceError when the network fails."""
        started = perf_counter_ns()
        picture_bgr = self._orientation.upright(frame.image_bgr)
        upright = perf_counter_ns()
        regions = self.region_source.regions_of(frame, picture_bgr)
        # fixed zones are looked up, not found: their nanoseconds would show as a stage of their own
        detect_ns = 0 if self.region_source.fixed else perf_counter_ns() - upright
        quality = self._quality.analyze(picture_bgr, regions, frame.media_ns)
        probs_nc, pre_ns, infer_ns = self._classify(picture_bgr, regions.rects)
        verdicts, state, reason = self._decider.decide(regions, probs_nc, quality, frame.media_ns / 1e6)
        timings = Timings(detect_ns, pre_ns, infer_ns, perf_counter_ns() - started)
        return FrameResult(frame, picture_bgr, verdicts, state, reason, timings)

    def reset(self) -> None:
        """Forget what was smoothed so far: the frames before a gap say nothing about those after it."""
        self._decider.reset()
        self.region_source.reset()

    def _classify(self, picture_bgr: Bytes, rects: Sequence[Rect]) -> tuple[Probs, int, int]:
        """Return the probabilities, and how many nanoseconds the geometry and the network took."""
        if not rects:  # backends are opened for one region and more
            return NO_PROBS, 0, 0
        started = perf_counter_ns()
        self.classifier.fill(picture_bgr, rects)
        filled = perf_counter_ns()
        probs_nc = self.classifier.infer(len(rects))
        return probs_nc, filled - started, perf_counter_ns() - filled


def is_unproved(bundle: Bundle, region_source: RegionSource) -> bool:
    """Return whether nothing shows that a region holds an object: fixed zones and a model without background class."""
    return bundle.background is None and region_source.fixed
