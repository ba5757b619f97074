"""Turn boxes into crops, for every detection format: filters, classes, context margin, background."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from core.data.labeled_frames import LabeledFrame, LabeledObject
from core.data.picture_files import IMAGE_SUFFIXES, is_hidden, printable
from core.errors import InputError
from core.geometry.frame import Rect
from core.geometry.preprocess import crop_rect
from training.data.class_map import ClassMap, read_class_map
from training.data.detections.annotated_boxes import AnnotatedBox, AnnotatedPicture, SkippedAnnotation, snap
from training.data.detections.background import sample_background
from training.data.detections.zones import read_camera_zones, zone_rows
from training.data.groups import group_finder
from training.data.listing import Listing, PackOptions, Sample
from training.data.source_files import load_file

OVERHANG_PX = 2
"""Boxes that leave their picture by more pixels are counted in a warning: many of them mean misread coordinates."""


@dataclass(frozen=True)
class DetectionSet:
    """A detection data set as its importer read it."""

    importer: str
    root: Path
    """The folder that the pictures' sources are relative to."""
    pictures: list[AnnotatedPicture]
    names: Iterable[str]
    """The source's classes in its own order, which the pack keeps."""
    skipped: Iterable[SkippedAnnotation] = ()
    """Annotations that belong to no picture."""
    warnings: Iterable[str] = ()
    missing_label_hint: str = ""
    """The place where the first picture's label file was expected, to end an error with."""
    group_of: Callable[[str], str] | None = None
    """Returns the group of a source, if the data set has groups; those of the options go before it."""


class SkipCounts:
    """Counts what is left out, by reason, with the place of the first."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.first: dict[str, str] = {}

    def add(self, reason: str, where: str) -> None:
        """Count one."""
        self.counts[reason] += 1
        self.first.setdefault(reason, printable(where))

    def describe(self) -> str:
        """Return the commonest reasons in one line."""
        reasons = [f"{n} {reason}, first {self.first[reason]}" for reason, n in self.counts.most_common(3)]
        return "; ".join(reasons) or "there is none"


def listing_of(detection_set: DetectionSet, options: PackOptions) -> Listing:
    """Return the listing of a detection set: a row for each box and for background, or a row for each zone."""
    class_map = read_class_map(options.classes)
    class_map.check_names(detection_set.names)
    skip_counts = SkipCounts()
    for skipped in detection_set.skipped:
        skip_counts.add(skipped.reason, skipped.where)
    frames = label_frames(detection_set, class_map, options, skip_counts)
    # a picture with a malformed annotation may show an object that nobody knows of: it is no frame to evaluate on
    complete_sources = {picture.source for picture in detection_set.pictures if picture.labeled and not picture.skipped}
    complete = [frame for frame in frames if frame.source in complete_sources]
    # in the source's order, each once: several of its classes may become one
    names = [name for name in dict.fromkeys(map(class_map.becomes, detection_set.names)) if name is not None]
    background = options.background_class or next((n for n in names if n in ("background", "clear")), "background")
    zones = read_camera_zones(options.as_zones) if options.as_zones else {}
    samples, shortage = (
        (zone_rows(complete, zones, background, options), list[str]())
        if zones
        else _box_rows(detection_set, frames, background, options)
    )
    # a class without a row cannot be trained
    used = {sample.label for sample in samples if not sample.unmarked}
    classes = [name for name in names if name in used]
    if background not in classes and any(sample.unmarked for sample in samples):
        classes.append(background)
    root = str(detection_set.root.resolve())
    missing = _without_box(detection_set.pictures, detection_set.names)
    return Listing(
        importer=detection_set.importer,
        root=root,
        samples=samples,
        classes=tuple(classes),
        background=background if background in classes else None,
        synthetic=False,
        load=partial(load_file, root),
        skipped=dict(sorted(skip_counts.counts.items())),
        first_skipped=dict(sorted(skip_counts.first.items())),
        warnings=[*detection_set.warnings, *_warnings(detection_set, options), *missing, *shortage],
        rejected=_unreadable(root, detection_set.pictures),
        frames=complete,
        zones=zones,
    )


def _box_rows(
    detection_set: DetectionSet, frames: list[LabeledFrame], background: str, options: PackOptions
) -> tuple[list[Sample], list[str]]:
    """Return a row for each box that counts and the background rows, and a warning where there was too little room."""
    samples = [sample for frame in frames for sample in _samples_of(frame, options.margin)]
    classes = {sample.label for sample in samples}
    wanted = options.background if options.background is not None else round(len(samples) / len(classes))
    groups = {frame.source: frame.group for frame in frames}
    drawn = sample_background(detection_set.pictures, samples, wanted, background, options, groups.__getitem__)
    shortage = [] if len(drawn) == wanted else [f"there was room for {len(drawn)} of {wanted} background crops"]
    return samples + drawn, shortage


def label_frames(
    detection_set: DetectionSet, class_map: ClassMap, options: PackOptions, skip_counts: SkipCounts
) -> list[LabeledFrame]:
    """Return the pictures with the pack's classes. Raises InputError when none of their boxes can be used."""
    group_of = group_finder(detection_set.root, options)
    if detection_set.group_of is not None and options.group is None and options.group_csv is None:
        group_of = detection_set.group_of
    frames = []
    for picture in detection_set.pictures:
        for skipped in picture.skipped:
            skip_counts.add(skipped.reason, skipped.where)
        if picture.width:  # one without a size is rejected as a picture, with the reason
            objects = tuple(_objects_of(picture, class_map, options, skip_counts))
            size_px = picture.width, picture.height
            frames.append(LabeledFrame(picture.source, group_of(picture.source), picture.split, size_px, objects))
    if not any(labeled.ignored is None for frame in frames for labeled in frame.objects):
        # a wrong layout is the likelier mistake, and the place where a label file was expected tells it
        if detection_set.pictures and not any(picture.labeled for picture in detection_set.pictures):
            raise InputError(
                f"{detection_set.root}: none of its {len(detection_set.pictures)} pictures has a label file"
                f"{detection_set.missing_label_hint}"
            )
        raise InputError(f"{detection_set.root}: none of its boxes can be used ({skip_counts.describe()})")
    return frames


def skip_reason(box: AnnotatedBox, rect: Rect, options: PackOptions) -> str | None:
    """Return the reason why a box gives no row, or None when it gives one."""
    # the source's own reason first, in the words of the data set
    if box.skip:
        return box.skip
    if rect[2] <= rect[0] or rect[3] <= rect[1]:
        return "outside the image"
    if min(rect[2] - rect[0], rect[3] - rect[1]) < options.min_side_px:
        return f"smaller than {options.min_side_px} px"
    if box.truncated > options.max_truncated:
        return "truncated"
    if box.occluded > options.max_occluded:
        return "occluded"
    return None


def _objects_of(
    picture: AnnotatedPicture, class_map: ClassMap, options: PackOptions, skip_counts: SkipCounts
) -> Iterator[LabeledObject]:
    """Yield the boxes that have a pixel in the picture, with the reason to ignore those that give no row."""
    for box in picture.boxes:
        at = snap(box.xyxy, picture.width, picture.height)
        reason = skip_reason(box, at, options)
        # only for a box that counts: a class without a line in the map is an error there, and no matter elsewhere
        label = None if reason else class_map.becomes(box.label)
        if label is None:
            reason = reason or f"{box.label}: dropped by the class map"
            skip_counts.add(reason, picture.source)
        # also one that gives no row: background must not be drawn there
        if at[0] < at[2] and at[1] < at[3]:
            yield LabeledObject(label or box.label, at, reason)


def _samples_of(frame: LabeledFrame, margin: float) -> Iterator[Sample]:
    for labeled in frame.objects:
        if labeled.ignored is None:
            rect = crop_rect(labeled.box, margin, *frame.size_px)
            yield Sample(frame.source, labeled.label, frame.group, frame.split, rect, frame.size_px)


def count_warning(what: str, names: Iterable[str]) -> list[str]:
    """Return one sentence with the number of `names` and the first of them, or nothing when there are none."""
    found = sorted(names)
    return [f"{what}: {len(found)}, the first {printable(found[0])}"] if found else []


def _warnings(detection_set: DetectionSet, options: PackOptions) -> list[str]:
    """Return warnings about pictures: without labels, beside the annotated ones, with boxes over the edge."""
    unlabeled = count_warning(
        "pictures without a label file", (p.source for p in detection_set.pictures if not p.labeled)
    )
    hint = "" if options.background_from_unlabelled else "; no background without --background-from-unlabeled"
    sized = (picture for picture in detection_set.pictures if picture.width)
    over = (picture.source for picture in sized for box in picture.boxes if _reaches_over(box, picture))
    return [
        *(line + hint for line in unlabeled),
        *count_warning("left out: pictures beside these that no annotation lists", _unlisted(detection_set)),
        *count_warning("boxes that reach over the edge of their picture, cut there", over),
    ]


def _without_box(pictures: Iterable[AnnotatedPicture], names: Iterable[str]) -> list[str]:
    """Return a warning about classes without a box: if class numbers were off by one, boxes would be mislabeled."""
    used = {box.label for picture in pictures for box in picture.boxes}
    return count_warning("classes that are listed and that no box has", set(names) - used)


def _reaches_over(box: AnnotatedBox, picture: AnnotatedPicture) -> bool:
    """Say whether a box leaves its picture by more than what rounding explains."""
    x0, y0, x1, y1 = box.xyxy
    return min(x0, y0) < -OVERHANG_PX or x1 > picture.width + OVERHANG_PX or y1 > picture.height + OVERHANG_PX


def _unlisted(detection_set: DetectionSet) -> Iterable[str]:
    """Yield the pictures in the folders of annotated ones that have no annotation."""
    listed = {picture.source for picture in detection_set.pictures}
    for folder in {source.rpartition("/")[0] for source in listed}:
        inside = detection_set.root / folder
        for entry in os.scandir(inside) if inside.is_dir() else ():
            path = f"{folder}/{entry.name}" if folder else entry.name
            is_picture = Path(entry.name).suffix.lower() in IMAGE_SUFFIXES and not is_hidden(entry.name)
            if is_picture and path not in listed:
                yield path


def _unreadable(root: str, pictures: list[AnnotatedPicture]) -> list[dict[str, Any]]:
    """Return pictures whose size is unknown, with the reason; no row is planned from them, so none is decoded."""
    rejected = []
    for picture in pictures:
        if picture.width == 0:
            pixels = load_file(root, picture.source)
            reason = pixels if isinstance(pixels, str) else "unreadable header"
            rejected.append({"source": printable(picture.source), "box": None, "reason": reason})
    return rejected
