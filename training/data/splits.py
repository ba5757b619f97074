"""Train, val and test splits by group, and the calibration slice of train."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from core.data.labeled_frames import LabeledFrame
from core.errors import InputError
from core.stats import pick_balanced
from training.data.listing import Listing, Sample

SHARES = {"train": 0.70, "val": 0.15, "test": 0.15}
CALIBRATION_ROWS = 640


def shuffle_key(seed: int, *parts: object) -> bytes:
    """Return a sort key that gives a random order, the same on every machine."""
    return hashlib.sha256("\0".join(map(str, (seed, *parts))).encode()).digest()


def split_samples(listing: Listing, seed: int) -> list[Sample]:
    """Return the samples, each with its split. Raises InputError naming a group that the source has in two splits."""
    given = {sample.split for sample in listing.samples}
    if None not in given:
        _check_groups(listing)
        return listing.samples
    split_of_group = draw_splits([(sample.group, sample.label) for sample in listing.samples], seed)
    return [replace(sample, split=split_of_group[sample.group]) for sample in listing.samples]


def split_frames(listing: Listing, samples: Iterable[Sample], seed: int) -> list[LabeledFrame]:
    """Return the labeled frames, each with the split of its group; a group without a row gets one at random."""
    if all(frame.split for frame in listing.frames) or not listing.frames:
        return listing.frames
    split_of_group = {sample.group: sample.split for sample in samples}

    def random_split(group: str) -> str:
        place = int.from_bytes(shuffle_key(seed, "frames", group)[:4]) / 2**32  # uniform in 0..1
        if place < SHARES["train"]:
            return "train"
        return "val" if place < 1 - SHARES["test"] else "test"

    return [
        replace(frame, split=split_of_group.get(frame.group) or random_split(frame.group)) for frame in listing.frames
    ]


def draw_splits(rows: Sequence[tuple[str, str]], seed: int) -> dict[str, str]:
    """Return {group: split} of rows (group, label): 70/15/15 by group, in each class as nearly as can be.

    Greedy: groups are placed from the largest to the smallest, each in the split that lacks its classes most. Large
    groups come first because small ones can still even out what they leave.
    """
    totals = Counter(label for _, label in rows)
    groups: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for group, label in rows:
        groups[group][label] += 1
    # {split: {class: rows that it still lacks}}; negative once a group has brought more than its share
    lacking = {split: {label: share * n for label, n in totals.items()} for split, share in SHARES.items()}
    split_of_group = {}
    for group in sorted(groups, key=lambda g: (-groups[g].total(), shuffle_key(seed, g))):
        counts = groups[group]
        # the part of its share that a split still lacks of a class, over the rows of the group; 1 a row at the start
        need = {}
        for split, share in SHARES.items():
            need[split] = sum(n * lacking[split][label] / totals[label] / share for label, n in counts.items())
        split = max(need, key=need.__getitem__)
        split_of_group[group] = split
        for label, n in counts.items():
            lacking[split][label] -= n
    return split_of_group


def join_groups(listing: Listing, pairs: Iterable[tuple[str, str]]) -> Listing:
    """Join the two groups of each pair, and so all groups that pairs connect, into one."""
    leader: dict[str, str] = {}

    def find(group: str) -> str:  # union-find: a group leads to another, and the last one stands for all
        while group in leader:
            group = leader[group]
        return group

    for group, other in pairs:
        first, second = sorted((find(group), find(other)))  # sorted: the order of the pairs must not name the group
        if first != second:
            leader[second] = first
    samples = [replace(sample, group=find(sample.group)) for sample in listing.samples]
    frames = [replace(frame, group=find(frame.group)) for frame in listing.frames]
    return replace(listing, samples=samples, frames=frames)


def choose_calibration(labels: Sequence[str], keys: Sequence[bytes]) -> set[int]:
    """Return the positions of the train rows that calibrate, taking the classes in turn, in the order of their keys.

    At most 640 rows and at most a third of train, but 64 rows where a third would be fewer.
    """
    at_least = min(64, len(labels) - 1)  # one row at least stays in train
    wanted = min(CALIBRATION_ROWS, max(len(labels) // 3, at_least))
    # by ascending key, and of equal keys the later row first, as in the packs that exist
    descending = sorted(range(len(labels)), key=keys.__getitem__, reverse=True)
    order = np.array(descending[::-1], np.int64)
    picked = pick_balanced(np.array(labels)[order], wanted)
    return set(order[picked].tolist())


def check_splits(source: str, samples: Sequence[Sample], listing: Listing) -> list[str]:
    """Return warnings about classes that a split lacks. Raises InputError when a class cannot be trained."""
    classes = listing.classes
    are_drawn = any(sample.split is None for sample in listing.samples)  # --resplit would draw the same splits again
    if len(classes) < 2:
        left_out = f" (left out: {listing.describe_skipped()})" if listing.skipped else ""
        raise InputError(
            f"{source} has only the class {classes[0]}{left_out}: give at least two, a folder or a name each"
        )
    counts = Counter((sample.split, sample.label) for sample in samples)
    other = "draw other splits with another --seed" if are_drawn else "let --resplit draw the splits anew"
    hint = f"add groups of it, {other}, or drop it with --classes"
    for split in SHARES:
        if not any(counts[split, name] for name in classes):
            raise InputError(f"{source} has no {split} split: add {'groups' if are_drawn else 'one'}, or {other}")
    warnings = []
    for name in classes:
        held = [split for split in SHARES if counts[split, name]]
        if len(held) == 1:
            raise InputError(f"{source}: the class {name} is in the split {held[0]} only: {hint}")
        if "train" not in held:
            raise InputError(f"{source}: the class {name} is not in train: {hint}")
        warnings += [f"the class {name} is not in {split}" for split in SHARES if split not in held]
    return warnings


def _check_groups(listing: Listing) -> None:
    seen: dict[str, Sample] = {}
    for sample in listing.samples:
        first = seen.setdefault(sample.group, sample)
        if first.split != sample.split:
            raise InputError(
                f"{listing.root}: the group {sample.group} is in two splits ({first.source} and {sample.source}): "
                "move one, or let --resplit draw the splits anew"
            )
