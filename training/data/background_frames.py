"""Background rows for a folder data set: crops of frames of the user's own camera, at random and at hard places."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path

import cv2
import numpy as np

from core.bundle.abstain import AbstainRule
from core.data.picture_files import scan
from core.errors import InputError
from core.geometry.frame import Bytes, Rect
from core.geometry.preprocess import fill, whole
from training.data.detections.annotation_files import source_of
from training.data.listing import Listing, PackOptions, Sample
from training.data.source_files import frame_name, video_frames
from training.data.splits import draw_splits, shuffle_key

SIDES = (0.15, 0.8)
"""The shorter side of a crop, as a part of the frame's."""
ASPECTS = (0.5, 2.0)
HARD_OF = 12
"""A hard place is the one with the most edges of this many random places."""
TRIES = 4
"""Passes over the frames before too few crops are accepted."""
GROUP_S, MIN_GROUPS = 10.0, 20
"""The length of the groups of a video, in seconds; they are shorter if there would be fewer than MIN_GROUPS."""
IsObject = Callable[[Bytes], bool]
"""Tells whether a crop, uint8 (h, w, 3) BGR, certainly shows an object."""


@dataclass(frozen=True, slots=True)
class BackgroundFrame:
    """One frame that crops are cut from."""

    source: str
    group: str


def add_background(listing: Listing, options: PackOptions) -> Listing:
    """Return the listing with background rows cut from the frames of `options.background_from`.

    Their number is `options.background`, by default as many as a class has on average. Every second one is cut at a
    hard place. Raises InputError when there is no frame, or not one crop could be cut.
    """
    assert options.background_from is not None
    label = listing.background or options.background_class or "background"
    counts = Counter(sample.label for sample in listing.samples if sample.label != label)
    wanted = round(counts.total() / len(counts)) if options.background is None else options.background
    is_object = _object_test(options.background_model, label) if options.background_model else lambda _: False
    frames = list_frames(options.background_from, Path(listing.root))
    cut = _cut(listing, frames, wanted, label, options, is_object)
    if wanted and not cut:
        raise InputError(f"{options.background_from}: no crop without an object could be cut from its frames")
    if all(sample.split for sample in listing.samples):
        drawn = draw_splits([(sample.group, label) for sample in cut], options.seed)
        cut = [replace(sample, split=drawn[sample.group]) for sample in cut]
    short = [] if len(cut) == wanted else [f"there was room for {len(cut)} of {wanted} background crops"]
    classes = listing.classes if label in listing.classes or not cut else (*listing.classes, label)
    return replace(
        listing,
        samples=listing.samples + cut,
        classes=classes,
        background=label if label in classes else None,
        warnings=listing.warnings + short,
    )


def list_frames(source: Path, root: Path) -> list[BackgroundFrame]:
    """Return the frames of a folder of pictures, each its own group, or of a video. Raises InputError without one.

    root: the folder that their sources are relative to.
    """
    place = source.resolve()
    if place.is_dir():
        names = [source_of(file, root) for file in scan(place).pictures]
        frames = [BackgroundFrame(name, name) for name in names]
    elif place.is_file():
        count, fps = video_frames(place)
        name, block = source_of(place, root), max(1, min(round(GROUP_S * fps), count // MIN_GROUPS))
        frames = [BackgroundFrame(frame_name(name, i), f"{name}, part {i // block}") for i in range(count)]
    else:
        raise InputError(f"{source} does not exist: give a folder of pictures, or a video, of your camera")
    if not frames:
        raise InputError(f"{source} holds no frame: give a folder of pictures, or a video, of your camera")
    return frames


def _cut(
    listing: Listing, frames: list[BackgroundFrame], wanted: int, label: str, options: PackOptions, is_object: IsObject
) -> list[Sample]:
    """Return up to `wanted` crops, one of each frame in turn, in a random order of the frames."""
    order = sorted(frames, key=lambda frame: shuffle_key(options.seed, "background", frame.source))
    cut: list[Sample] = []
    for turn, frame in zip(range(max(TRIES * len(order), TRIES * wanted)), cycle(order), strict=False):
        if len(cut) == wanted:
            break
        pixels = listing.load(frame.source)
        if isinstance(pixels, str):
            continue
        draws = random.Random(shuffle_key(options.seed, "background", frame.source, turn))
        rect = draw_rect(pixels, draws, hard=len(cut) % 2 == 1)
        if min(rect[2] - rect[0], rect[3] - rect[1]) < options.min_side_px:
            continue
        if not is_object(pixels[rect[1] : rect[3], rect[0] : rect[2]]):
            size = pixels.shape[1], pixels.shape[0]
            cut.append(Sample(frame.source, label, frame.group, None, rect, size, drawn=True))
    return cut


def draw_rect(pixels: Bytes, draws: random.Random, *, hard: bool) -> Rect:
    """Return a random rectangle inside a frame; a hard one has the strongest edges of HARD_OF rectangles."""
    rects = list(_rects(pixels.shape[1], pixels.shape[0], draws, HARD_OF if hard else 1))
    if not hard:
        return rects[0]
    gray = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)
    edges = np.abs(cv2.Sobel(gray, cv2.CV_32F, 1, 0)) + np.abs(cv2.Sobel(gray, cv2.CV_32F, 0, 1))
    return max(rects, key=lambda r: float(edges[r[1] : r[3], r[0] : r[2]].mean()))


def _rects(width: int, height: int, draws: random.Random, count: int) -> Iterator[Rect]:
    for _ in range(count):
        side = min(width, height) * math.exp(draws.uniform(*map(math.log, SIDES)))
        aspect = math.exp(draws.uniform(*map(math.log, ASPECTS)))
        w = min(width, max(1, round(side * max(aspect, 1.0))))
        h = min(height, max(1, round(side * max(1 / aspect, 1.0))))
        x, y = draws.randint(0, width - w), draws.randint(0, height - h)
        yield x, y, x + w, y + h


def _object_test(path: Path, background: str) -> IsObject:
    """Return a test by a trained network: a crop shows an object when its class passes the abstention threshold."""
    import torch

    from models.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(path)
    metadata, network = checkpoint.metadata, checkpoint.build_network().eval()
    crop_nhwc, rule = metadata.geometry.empty(1), AbstainRule(metadata.abstain_threshold)

    def is_object(crop_bgr: Bytes) -> bool:
        fill(crop_nhwc, crop_bgr, [whole(crop_bgr)], metadata.geometry)
        with torch.no_grad():
            probs_c = network(torch.from_numpy(crop_nhwc))[0]
        prob, top = probs_c.max(0)
        said = metadata.classes[int(top)]
        return said not in (background, metadata.background) and rule.accepts(float(prob))

    return is_object
