"""Chooses the labeled frames of a pack to measure, and the regions that are classified in them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.bundle.contract import Bundle
from core.data.labeled_frames import LabeledFrame, read_frames, read_margin, read_pack_zones
from core.data.pack import Pack
from core.errors import InputError
from core.geometry.camera_config import CameraConfig, read_camera_config
from core.geometry.frame import Rect
from core.geometry.preprocess import crop_rect
from inference.frame.boxes import FrameBox, FrameBoxes
from inference.frame.detection.detector import open_detector_or_on_cpu
from inference.frame.detection.tracked_regions import TrackedRegions
from inference.frame.regions import RegionSource, Zones
from inference.runner.region_choice import find_detector, pick_detector

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FramesRequest:
    """A request to measure labeled frames: which of them, and with which regions."""

    pack: Path | None = None
    """None: the run's own pack."""
    split: str = "test"
    camera: Path | None = None
    """A camera.json, whose zones or detector give the regions; None: as `regions` says."""
    detector: Path | None = None
    """An ONNX file whose boxes are the regions, with the settings of camera.json where there are some."""
    labeled: bool = False
    """Take the labeled boxes as regions, as a detector would give that finds every object."""
    jitter: float = 0.0
    """Standard deviation by which each edge of a labeled box is moved, as a part of the box's side."""
    most: int | None = None
    """The largest number of frames; None for all."""

    def __post_init__(self) -> None:
        if not 0 <= self.jitter <= 1:
            raise InputError(f"jitter is {self.jitter}: give a part of a box's side, such as 0.1")
        if self.labeled and self.detector:
            raise InputError("there is --detector and there is --labeled-boxes: give one of the two")

    def frames(self, pack: Pack) -> list[LabeledFrame]:
        """Return the frames of the split, a random `most` of them. Raises InputError where it has none."""
        frames = read_frames(pack, self.split)
        if not frames:
            raise InputError(f"{pack.path} has no labeled frame in {self.split}: choose another split")
        # always the same part, so that two runs over it can be compared
        order = np.random.default_rng(0).permutation(len(frames))[: self.most]
        return [frames[at] for at in sorted(order.tolist())]

    def regions(
        self, pack: Pack, frames: Sequence[LabeledFrame], bundle: Bundle, backend: str, threads: int | None
    ) -> tuple[str, RegionSource]:
        """Return a few words on the regions, and their source, opened. backend, threads: those of a detector.

        The regions are the first of these that exists: labeled boxes, if they were asked for; the detector or the zones
        of the request; the bundle's detector; the zones that the pack was cut by; labeled boxes.
        """
        camera = CameraConfig()
        if self.camera:
            camera = read_camera_config(self.camera)
            camera.check_upright(self.camera)
        given = pick_detector(camera, self.detector)
        if not self.labeled and (detector := given or find_detector(bundle, camera)):
            opened = open_detector_or_on_cpu(detector, backend, threads)
            description = f"the boxes of {detector.path.name if given else 'the detector in the bundle'}"
            # each frame by itself: labeled frames need not follow each other
            return description, TrackedRegions(opened, sequence=False)
        if self.camera and not camera.zones:
            raise InputError(f"{self.camera} has no zones: name the rectangles that are classified")
        zones = camera.zones or read_pack_zones(pack)
        description = f"the zones of {self.camera.name if self.camera else 'the pack'}"
        if zones and not self.labeled:
            return description, Zones(zones)
        description = f"the labeled boxes, jittered by {self.jitter:g}" if self.jitter else "the labeled boxes"
        return description, labeled_boxes(frames, read_margin(pack), self.jitter)


def warn_of_other_classes(bundle: Bundle, pack: Pack) -> None:
    """Warn of the classes that only the bundle or only the pack has. Of background no object is labeled."""
    if other := sorted(({*bundle.classes} ^ {*pack.classes}) - {bundle.background, pack.background}):
        names = ", ".join(other)
        log.warning(f"{bundle.arch} and {pack.path} differ in the classes {names}: none of these can be right")


def labeled_boxes(frames: Iterable[LabeledFrame], margin: float, jitter: float = 0.0) -> FrameBoxes:
    """Return the labeled boxes with their context as regions, in place of a detector that finds every object."""
    # seeded, and drawn frame after frame: the same frames always get the same boxes
    random = np.random.default_rng(0)
    return FrameBoxes({frame.source: tuple(_boxes_of(frame, margin, jitter, random)) for frame in frames})


def _boxes_of(frame: LabeledFrame, margin: float, jitter: float, random: np.random.Generator) -> Iterator[FrameBox]:
    for number, labeled in enumerate(frame.objects):
        if labeled.ignored is None:
            box = jittered(labeled.box, jitter, random)
            yield FrameBox(crop_rect(box, margin, *frame.size_px), f"object{number}", labeled.label)


def jittered(box: Rect, jitter: float, random: np.random.Generator) -> Rect:
    """Return a box whose edges are moved, each by a normal deviate of `jitter` sides; at least a pixel is left."""
    old_x0, old_y0, old_x1, old_y1 = box
    width, height = old_x1 - old_x0, old_y1 - old_y0
    moved = np.round(random.normal(0, jitter, 4) * (width, height, width, height))
    left, top, right, bottom = moved.astype(int).tolist()
    x0 = min(old_x0 + left, old_x1 - 1)
    y0 = min(old_y0 + top, old_y1 - 1)
    x1 = max(old_x1 + right, x0 + 1)
    y1 = max(old_y1 + bottom, y0 + 1)
    return x0, y0, x1, y1
