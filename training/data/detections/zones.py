"""Fixed zones of labeled frames as rows: each zone of each frame, with the class of what stands in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from core.data.labeled_frames import LabeledFrame
from core.errors import InputError
from core.geometry.camera_config import read_camera_config
from core.geometry.frame import Relative
from core.geometry.occupancy import is_empty, occupant
from core.geometry.preprocess import rect_of
from training.data.listing import PackOptions, Sample
from training.data.splits import shuffle_key


def read_camera_zones(file: Path) -> dict[str, Relative]:
    """Read the zones of a camera.json. Raises InputError when it has none, or turns the picture."""
    camera = read_camera_config(file)
    if not camera.zones:
        raise InputError(f"{file} has no zones: name the rectangles that the camera will classify")
    camera.check_upright(file)
    return camera.zones


def zone_rows(
    frames: Iterable[LabeledFrame], zones: Mapping[str, Relative], background: str, options: PackOptions
) -> list[Sample]:
    """Return a sample for each zone of each frame, except zones that show a part of an object or an ignored object.

    The class is that of the object that fills most of the zone, by the rule in core/geometry/occupancy.py, or
    `background`. The options give the number of background rows; by default there are as many as all others together.
    They are `unmarked`, because no person annotated them.
    """
    samples = [sample for frame in frames for sample in _zones_of(frame, zones, background)]
    objects = [sample for sample in samples if not sample.unmarked]
    empty = [sample for sample in samples if sample.unmarked]
    wanted = len(objects) if options.background is None else options.background
    # which of the empty zones are taken is random, and the same on every machine
    shuffled = sorted(empty, key=lambda sample: shuffle_key(options.seed, "zones", sample.source, sample.box))
    return objects + shuffled[:wanted]


def _zones_of(frame: LabeledFrame, zones: Mapping[str, Relative], background: str) -> Iterator[Sample]:
    boxes = [labeled.box for labeled in frame.objects]  # with those to be ignored: a place with one is not background
    source = frame.source
    group = frame.group
    split = frame.split
    size_px = frame.size_px
    for relative in zones.values():
        rect = rect_of(relative, *size_px)
        index = occupant(rect, boxes, fixed=True)
        if index is None and is_empty(rect, boxes):
            yield Sample(source, background, group, split, rect, size_px, unmarked=True)
        elif index is not None and frame.objects[index].ignored is None:
            yield Sample(source, frame.objects[index].label, group, split, rect, size_px)
