"""From boxes to crops, the same for every detection format: filters, classes, context margin, background."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from inference.errors import InputError
from inference.preprocess import Rect, clip_rect
from training.class_map import ClassMap, read_class_map
from training.images import load_file
from training.importers import Listing, Options, Sample
from training.splits import rank

GRID = 32
"""Edges are first rounded to this part of a pixel: YOLO's decimals turn 83.5 into 83.4998."""
TRIES = 20
Xyxy = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels of the image, x1 and y1 exclusive, not rounded."""


@dataclass(frozen=True, slots=True)
class Box:
    """One annotated object."""

    label: str
    xyxy: Xyxy
    truncated: float = 0.0
    """Part of the object outside the image, 0..1."""
    occluded: int = 0
    """0 visible, 1 partly, 2 largely hidden, 3 unknown, as KITTI counts."""
    skip: str | None = None
    """Why the source itself says that this is not one whole object: crowd, difficult, don't care."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One image of a detection data set and its boxes."""

    source: str
    width: int
    height: int
    split: str | None
    boxes: tuple[Box, ...] = field(default=())


def snap(xyxy: Xyxy, width: int, height: int) -> Rect:
    """Return a box in whole pixels inside the image; empty (x1 <= x0 or y1 <= y0) when it is outside."""
    x0, y0, x1, y1 = (round(value * GRID) / GRID for value in xyxy)
    # halves go where VOC's writers put them, who round 1-based corners to even: one box, one crop in every format
    return max(round(x0 + 1) - 1, 0), max(round(y0 + 1) - 1, 0), min(round(x1), width), min(round(y1), height)


def crop_rect(box: Rect, margin: float, width: int, height: int) -> Rect:
    """Return the rectangle to cut: the box and `margin` of its sides around it, inside the image."""
    dx, dy = round(margin * (box[2] - box[0])), round(margin * (box[3] - box[1]))
    return clip_rect((box[0] - dx, box[1] - dy, box[2] + dx, box[3] + dy), width, height)


def overlap(a: Rect, b: Rect) -> bool:
    """Say whether two rectangles share a pixel."""
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def why_not(box: Box, at: Rect, options: Options) -> str | None:
    """Say why a box gives no row, or None."""
    if box.skip:
        return box.skip
    if at[2] <= at[0] or at[3] <= at[1]:
        return "outside the image"
    if min(at[2] - at[0], at[3] - at[1]) < options.min_side_px:
        return f"smaller than {options.min_side_px} px"
    if box.truncated > options.max_truncated:
        return "truncated"
    if box.occluded > options.max_occluded:
        return "occluded"
    return None


def list_crops(
    importer: str,
    root: str,
    pictures: Iterable[Picture],
    names: Iterable[str],
    options: Options,
    group_of: Callable[[str], str],
) -> Listing:
    """Turn pictures into a listing: one sample a usable box, and background that overlaps no box at all.

    names: the source's classes in its own order, which the pack's keep.
    """
    class_map, skipped = read_class_map(options.classes), Counter[str]()
    held = list(pictures)
    samples = [
        sample
        for picture in held
        for sample in _samples_of(picture, class_map, options, group_of(picture.source), skipped)
    ]
    if not samples:
        why = ", ".join(f"{n} {reason}" for reason, n in skipped.most_common(3)) or "there is none"
        raise InputError(f"{root}: none of its boxes can be used ({why})")
    used = {sample.label for sample in samples}
    becoming = dict.fromkeys(class_map.becomes(name) for name in names)
    classes = [name for name in becoming if name in used]
    background = options.background_class or next((n for n in classes if n in ("background", "clear")), "background")
    wanted = options.background if options.background is not None else round(len(samples) / len(classes))
    drawn = draw_background(held, samples, wanted, background, options, group_of)
    if drawn and background not in classes:
        classes.append(background)
    warnings = [] if len(drawn) == wanted else [f"there was room for {len(drawn)} of {wanted} background crops"]
    return Listing(
        importer=importer,
        root=root,
        samples=samples + drawn,
        classes=tuple(classes),
        background=background if background in classes else None,
        synthetic=False,
        load=partial(load_file, root),
        skipped=dict(sorted(skipped.items())),
        warnings=warnings,
        rejected=_unreadable(root, held),
    )


def _samples_of(
    picture: Picture, class_map: ClassMap, options: Options, group: str, skipped: Counter[str]
) -> Iterable[Sample]:
    for box in picture.boxes:
        at = snap(box.xyxy, picture.width, picture.height)
        reason = why_not(box, at, options)
        label = None if reason else class_map.becomes(box.label)
        if label is None:
            skipped[reason or f"{box.label}: dropped by the class map"] += 1
            continue
        rect = crop_rect(at, options.margin, picture.width, picture.height)
        yield Sample(picture.source, label, group, picture.split, rect, (picture.width, picture.height))


def _unreadable(root: str, pictures: list[Picture]) -> list[dict[str, Any]]:
    """Say why each picture without a size has none; no row is planned from it, so no decoder would."""
    without = [picture.source for picture in pictures if picture.width == 0]
    reasons = ((source, load_file(root, source)) for source in without)
    return [{"source": s, "box": None, "reason": r if isinstance(r, str) else "unreadable header"} for s, r in reasons]


def draw_background(
    pictures: list[Picture],
    samples: list[Sample],
    wanted: int,
    label: str,
    options: Options,
    group_of: Callable[[str], str],
) -> list[Sample]:
    """Draw up to `wanted` rectangles that overlap no box, of the sizes that the samples have, spread over pictures."""
    sizes = [(s.box[2] - s.box[0], s.box[3] - s.box[1]) for s in samples if s.box is not None]
    order = sorted(pictures, key=lambda picture: rank(options.seed, "background", picture.source))
    randoms = [random.Random(rank(options.seed, "background", picture.source)) for picture in order]
    taken = [[snap(box.xyxy, p.width, p.height) for box in p.boxes] for p in order]
    drawn: list[Sample] = []
    before = -1
    while before < len(drawn) < wanted:  # round after round, until a whole round finds no room
        before = len(drawn)
        for picture, source, occupied in zip(order, randoms, taken, strict=True):
            if len(drawn) == wanted:
                break
            rect = _free_rect(picture, source, occupied, sizes)
            if rect is not None:
                occupied.append(rect)
                frame = (picture.width, picture.height)
                drawn.append(
                    Sample(picture.source, label, group_of(picture.source), picture.split, rect, frame, drawn=True)
                )
    return drawn


def _free_rect(
    picture: Picture, source: random.Random, occupied: list[Rect], sizes: list[tuple[int, int]]
) -> Rect | None:
    for _ in range(TRIES):
        width, height = sizes[source.randrange(len(sizes))]
        if width > picture.width or height > picture.height:
            continue
        x, y = source.randrange(picture.width - width + 1), source.randrange(picture.height - height + 1)
        rect = (x, y, x + width, y + height)
        if not any(overlap(rect, other) for other in occupied):
            return rect
    return None
