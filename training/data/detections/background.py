"""Draw background: rectangles of pictures that overlap no annotated object."""

from __future__ import annotations

import random
from collections.abc import Callable

from core.geometry.frame import Rect
from training.data.detections.annotated_boxes import AnnotatedPicture, overlaps, snap
from training.data.listing import PackOptions, Sample
from training.data.splits import shuffle_key

TRIES = 20


def sample_background(
    pictures: list[AnnotatedPicture],
    samples: list[Sample],
    wanted: int,
    label: str,
    options: PackOptions,
    group_of: Callable[[str], str],
) -> list[Sample]:
    """Return up to `wanted` rectangles that overlap no box, with the sizes of the samples, spread over the pictures.

    A picture without labels gives none, unless the options ask for it. A picture with a malformed annotation gives none
    at all, because the object of that annotation may be anywhere.
    """
    # sizes of real crops, so that neither the size nor the blur of enlarging tells background from objects
    boxes = [sample.box for sample in samples if sample.box is not None]
    sizes = [(x1 - x0, y1 - y0) for x0, y0, x1, y1 in boxes]
    allowed = [picture for picture in pictures if picture.labeled or options.background_from_unlabelled]
    complete = [picture for picture in allowed if not picture.skipped]
    order = sorted(complete, key=lambda picture: shuffle_key(options.seed, "background", picture.source))
    # a generator for each picture: what one picture gives does not depend on the others
    randoms = [random.Random(shuffle_key(options.seed, "background", picture.source)) for picture in order]
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
                occupied.append(rect)  # two crops of one place would be one picture twice
                frame_wh = (picture.width, picture.height)
                group = group_of(picture.source)
                drawn.append(Sample(picture.source, label, group, picture.split, rect, frame_wh, unmarked=True))
    return drawn


def _free_rect(
    picture: AnnotatedPicture, source: random.Random, occupied: list[Rect], sizes: list[tuple[int, int]]
) -> Rect | None:
    """Return a random rectangle that overlaps no other, with one of the sizes; None after TRIES failures."""
    for _ in range(TRIES):
        width, height = sizes[source.randrange(len(sizes))]
        if width > picture.width or height > picture.height:
            continue
        x = source.randrange(picture.width - width + 1)
        y = source.randrange(picture.height - height + 1)
        rect = (x, y, x + width, y + height)
        if not any(overlaps(rect, other) for other in occupied):
            return rect
    return None
