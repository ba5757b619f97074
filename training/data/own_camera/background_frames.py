"""Background rows for a folder data set: crops of frames of the user's own camera, at random and at hard places."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import cycle
from pathlib import Path

import cv2
import numpy as np

from core.bundle.abstain import AbstainRule
from core.data.recording import is_recording
from core.errors import InputError
from core.geometry.frame import Bytes, Rect
from core.geometry.preprocess import fill, whole
from training.data.listing import Listing, PackOptions, Sample
from training.data.own_camera.false_alarms import false_alarm_rows
from training.data.own_camera.frames import CameraFrame, list_frames
from training.data.splits import draw_splits, shuffle_key

SIDES = (0.15, 0.8)
"""The shorter side of a crop, as a part of the frame's."""
ASPECTS = (0.5, 2.0)
HARD_OF = 12
"""A hard place is the one with the most edges of this many random places."""
TRIES = 4
"""Tries for each frame, or for each wanted crop where those are more, before too few crops are accepted."""
IsObject = Callable[[Bytes], bool]
"""Tells whether a crop, uint8 (h, w, 3) BGR, certainly shows an object."""


def add_background(listing: Listing, options: PackOptions) -> Listing:
    """Return the listing with background rows cut from the frames of `options.background_from`.

    Their number is `options.background`, by default as many as a class has on average. In a recording up to half of
    them are regions that the runner gave a class; with `options.false_alarms` all are the listed ones. Every second one
    of the rest is cut at a hard place. Raises InputError when there is no frame, or not one crop could be cut.
    """
    assert options.background_from is not None
    label = listing.background or options.background_class or "background"
    counts = Counter(sample.label for sample in listing.samples if sample.label != label)
    wanted = round(counts.total() / len(counts)) if options.background is None else options.background
    frames, warnings = list_frames(options.background_from, Path(listing.root))
    listed = options.false_alarms is not None
    if listed and not is_recording(options.background_from):
        raise InputError(f"{options.background_from} is no recording: --false-alarms is for what --record wrote")
    # false alarms first; crops of the other frames fill up what is missing of the number wanted
    cut, left_out = false_alarm_rows(frames, counts, label, wanted if listed else wanted // 2, options)
    if not listed:
        warnings += _assumption(options.background_from, len(cut), sum(frame.detected for frame in frames))
        cut = cut + _cut(listing, frames, wanted - len(cut), label, options)
        left_out += [] if len(cut) == wanted else [f"there was room for {len(cut)} of {wanted} background crops"]
    if wanted and not cut:
        raise InputError(f"{options.background_from}: no crop without an object could be cut from its frames")
    # a source without splits gets them later, for these rows too
    if all(sample.split for sample in listing.samples):
        cut = _in_given_splits(cut, listed, options.seed)
    classes = listing.classes if label in listing.classes or not cut else (*listing.classes, label)
    return replace(
        listing,
        samples=listing.samples + cut,
        classes=classes,
        background=label if label in classes else None,
        warnings=listing.warnings + warnings + left_out,
    )


def _assumption(source: Path, named: int, detected: int) -> list[str]:
    """Return a warning where a recording that is taken for an empty road seems to show objects.

    named: the rows that the runner gave a class. detected: the boxes of a detector in front.
    """
    found = [f"{named} regions that were given a class become background"] if named else []
    found += [f"its detector found {detected} boxes"] if detected else []
    if not found:
        return []
    hint = "film a road without objects, or list what is false with --false-alarms FILE"
    return [f"{source} is taken as empty road ({', and '.join(found)}): if objects were there, {hint}"]


def _in_given_splits(cut: list[Sample], listed: bool, seed: int) -> list[Sample]:
    """Return the rows with a split each, for a source that is split: listed false alarms are learned from, all of them.

    They are one drive, often one place, and val and test stay what they were.
    """
    split_of_group = draw_splits([(sample.group, sample.label) for sample in cut], seed)
    return [replace(sample, split="train" if listed else split_of_group[sample.group]) for sample in cut]


def _cut(listing: Listing, frames: list[CameraFrame], wanted: int, label: str, options: PackOptions) -> list[Sample]:
    """Return up to `wanted` crops, one of each frame in turn, in a random order of the frames."""
    is_object = _object_test(options.background_model, label) if options.background_model else lambda _: False
    order = sorted(frames, key=lambda frame: shuffle_key(options.seed, "background", frame.source))
    cut: list[Sample] = []
    # a limit, because the test by the model may refuse every crop
    most = max(TRIES * len(order), TRIES * wanted)
    for turn, frame in zip(range(most), cycle(order), strict=False):
        if len(cut) == wanted:
            break
        pixels = listing.load(frame.source)
        if isinstance(pixels, str):
            continue
        # by turn too: a frame that comes again gives another rectangle
        rng = random.Random(shuffle_key(options.seed, "background", frame.source, turn))
        rect = draw_rect(pixels, rng, hard=len(cut) % 2 == 1)
        x0, y0, x1, y1 = rect
        if min(x1 - x0, y1 - y0) < options.min_side_px:
            continue
        if not is_object(pixels[y0:y1, x0:x1]):
            height, width = pixels.shape[:2]
            cut.append(Sample(frame.source, label, frame.group, None, rect, (width, height), unmarked=True))
    return cut


def draw_rect(pixels: Bytes, rng: random.Random, *, hard: bool) -> Rect:
    """Return a random rectangle inside a frame; a hard one has the strongest edges of HARD_OF rectangles."""
    height, width = pixels.shape[:2]
    rects = list(_rects(width, height, rng, HARD_OF if hard else 1))
    if not hard:
        return rects[0]
    gray = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)
    # both gradients, because an edge may run in any direction
    across = cv2.Sobel(gray, cv2.CV_32F, 1, 0)
    down = cv2.Sobel(gray, cv2.CV_32F, 0, 1)
    edges = np.abs(across) + np.abs(down)

    def mean_edge(rect: Rect) -> float:
        x0, y0, x1, y1 = rect
        return float(edges[y0:y1, x0:x1].mean())

    return max(rects, key=mean_edge)


def _rects(width: int, height: int, rng: random.Random, count: int) -> Iterator[Rect]:
    """Yield random rectangles inside a frame, with log-uniform sizes and aspects: as many of 2:1 as of 1:2."""
    for _ in range(count):
        side = min(width, height) * _log_uniform(rng, *SIDES)
        aspect = _log_uniform(rng, *ASPECTS)
        # `side` is the shorter one: the other is longer by the aspect, or by its inverse
        wide = side * max(aspect, 1.0)
        high = side * max(1 / aspect, 1.0)
        w = min(width, max(1, round(wide)))
        h = min(height, max(1, round(high)))
        x = rng.randint(0, width - w)
        y = rng.randint(0, height - h)
        yield x, y, x + w, y + h


def _log_uniform(rng: random.Random, low: float, high: float) -> float:
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def _object_test(path: Path, background: str) -> IsObject:
    """Return a test by a trained network: a crop shows an object when its class passes the abstain threshold."""
    import torch  # here, because packing without a model should not wait for it

    from models.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(path)
    metadata = checkpoint.metadata
    network = checkpoint.build_network().eval()
    crop_nhwc = metadata.geometry.empty(1)
    rule = AbstainRule(metadata.abstain_threshold)

    def is_object(crop_bgr: Bytes) -> bool:
        fill(crop_nhwc, crop_bgr, [whole(crop_bgr)], metadata.geometry)
        with torch.no_grad():
            probs_c = network(torch.from_numpy(crop_nhwc))[0]
        prob, top = probs_c.max(0)
        said = metadata.classes[int(top)]
        return said not in (background, metadata.background) and rule.accepts(float(prob))

    return is_object
