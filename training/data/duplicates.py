"""Find duplicate pictures in a pack: the same bytes, or one picture re-encoded, scaled or mirrored."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from core.geometry.frame import Bytes

Hashes = NDArray[np.uint64]
SMALL_PX = 32
"""Side of the picture that imagehash's pHash works on."""
BLOCKS_PX = 16
MAX_BITS = 6
"""Largest distance, in bits of 64, of two hashes of one picture: after JPEG at quality 50, or at half the size."""
BANDS = 7
"""Parts of a hash. One more than MAX_BITS, so two near hashes have at least one equal part."""
MIN_CONTRAST = 6.0
"""Least standard deviation, in gray levels; flatter pictures cannot be told apart by content."""
MIN_DETAIL = 0.9
"""Least correlation of the fine detail of one picture: it is 0.91 to 0.99 after JPEG at quality 50 to 90 at 64 px."""
MAX_LEVELS = 24
"""Largest difference, in levels, of a sixteenth by a sixteenth of one picture: at 64 px JPEG at quality 75 makes it at
most 23, at quality 50 in 9 of 10; a person who steps into the scene of a fixed camera makes it more."""
MAX_PAIRS = 200_000
"""Most candidate pairs compared, so that a pack of one repeated picture ends in time."""
COMPARED_AT_ONCE = 10_000_000


@dataclass(frozen=True, slots=True)
class DuplicatePair:
    """Two rows that show one picture; `first` < `second`."""

    first: int
    second: int
    exact: bool
    mirrored: bool


def small(image_rgb: Bytes) -> Bytes:
    """Shrink uint8 (S, S, 3) to grey (32, 32)."""
    grey = cv2.cvtColor(image_rgb, cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.resize(grey, (SMALL_PX, SMALL_PX), interpolation=cv2.INTER_AREA), np.uint8)


def hash_picture(image_rgb: Bytes) -> tuple[int, int]:
    """Return the perceptual hashes, 64 bits each, of a picture and of its mirror image; 0, 0 for a flat one."""
    import imagehash  # packing alone needs it: training on a pack does without
    from PIL import Image

    grey = small(image_rgb)
    if grey.std() < MIN_CONTRAST:
        return 0, 0
    upright, mirrored = (imagehash.phash(Image.fromarray(g)).hash for g in (grey, np.ascontiguousarray(grey[:, ::-1])))
    return _number(upright), _number(mirrored)


def find_duplicates(
    sha256: Sequence[bytes], hashes_n2: Hashes, images_nhwc: Bytes, split_n: NDArray[np.int64]
) -> list[DuplicatePair]:
    """Return the pairs of rows that show one picture, those of two splits first.

    Of many equal rows each is paired with the first of each split only.
    """
    found = {pair: DuplicatePair(*pair, exact=True, mirrored=False) for pair in _equal(sha256, split_n)}
    copies = {second for first, second in found if split_n[first] == split_n[second]}
    telling = np.flatnonzero(hashes_n2[:, 0])
    for mirrored in (False, True):
        left_n, right_n = hashes_n2[telling, 0], hashes_n2[telling, int(mirrored)]
        for first, second in telling[near_pairs(left_n, right_n, split_n[telling])].tolist():
            pair = first, second
            if pair in found or copies.intersection(pair):
                continue
            if same_picture(images_nhwc[first], images_nhwc[second], mirrored):
                found[pair] = DuplicatePair(*pair, exact=False, mirrored=mirrored)
    return sorted(found.values(), key=lambda t: (split_n[t.first] == split_n[t.second], t.first, t.second))


def near_pairs(left_n: Hashes, right_n: Hashes, split_n: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return rows (i, j), i < j, where left[i] and right[j] differ by at most MAX_BITS, those of two splits first.

    Hashes that near have one of BANDS parts in common, so only those that share a part are compared.
    """
    across: set[tuple[int, int]] = set()
    within: set[tuple[int, int]] = set()
    for low, high in pairwise(np.linspace(0, 64, BANDS + 1).astype(int).tolist()):
        shift, mask = np.uint64(low), np.uint64((1 << (high - low)) - 1)
        for i_n, j_n in _share(left_n >> shift & mask, right_n >> shift & mask):
            near = np.bitwise_count(left_n[i_n][:, None] ^ right_n[j_n][None]) <= MAX_BITS
            rows, columns = np.nonzero(near & (i_n[:, None] < j_n[None]))
            apart = split_n[i_n[rows]] != split_n[j_n[columns]]
            for pairs, chosen in ((across, apart), (within, ~apart)):
                if len(pairs) < MAX_PAIRS:
                    pairs.update(zip(i_n[rows[chosen]].tolist(), j_n[columns[chosen]].tolist(), strict=True))
    return np.array((sorted(across) + sorted(within))[:MAX_PAIRS], np.int64).reshape(-1, 2)


def same_picture(a_rgb: Bytes, b_rgb: Bytes, mirrored: bool) -> bool:
    """Say whether two pictures of near hashes are one: nowhere of another colour, and of the same fine detail."""
    if mirrored:
        b_rgb = np.ascontiguousarray(b_rgb[:, ::-1])
    if cv2.absdiff(_blocks(a_rgb), _blocks(b_rgb)).max() > MAX_LEVELS:
        return False
    x, y = (_detail(small(image)).ravel() for image in (a_rgb, b_rgb))
    return bool(x @ y >= MIN_DETAIL * np.sqrt((x @ x) * (y @ y)))


def _blocks(image_rgb: Bytes) -> Bytes:
    smooth = cv2.GaussianBlur(image_rgb, (0, 0), len(image_rgb) / 64)
    return np.asarray(cv2.resize(smooth, (BLOCKS_PX, BLOCKS_PX), interpolation=cv2.INTER_AREA), np.uint8)


def _detail(grey: Bytes) -> NDArray[np.float32]:
    level = grey.astype(np.float32)
    return np.asarray(level - cv2.GaussianBlur(level, (0, 0), 2), np.float32)


def _number(bits: NDArray[np.bool_]) -> int:
    return int(np.packbits(bits.ravel()).view(np.uint64)[0])


def _equal(sha256: Sequence[bytes], split_n: NDArray[np.int64]) -> Iterable[tuple[int, int]]:
    """Yield each row of equal pixels with the first of them in each split."""
    rows_of: defaultdict[bytes, list[int]] = defaultdict(list)
    for row, digest in enumerate(sha256):
        rows_of[digest].append(row)
    for rows in rows_of.values():
        firsts = {int(split_n[row]): row for row in reversed(rows)}
        for row in rows:
            yield from ((first, row) for first in firsts.values() if first < row)


def _share(left_n: Hashes, right_n: Hashes) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield the indices of left and right that hold one and the same key, key by key."""
    if not len(left_n):
        return
    left_order, right_order = np.argsort(left_n, kind="stable"), np.argsort(right_n, kind="stable")
    keys, starts = np.unique(left_n[left_order], return_index=True)
    ends = np.append(starts[1:], len(left_n))
    right_sorted = right_n[right_order]
    lows, highs = np.searchsorted(right_sorted, keys, "left"), np.searchsorted(right_sorted, keys, "right")
    for start, end, low, high in zip(starts, ends, lows, highs, strict=True):
        each = max(1, COMPARED_AT_ONCE // max(1, high - low))  # a part that all hashes share must not fill the memory
        for at in range(start, end, each):
            yield left_order[at : min(at + each, end)], right_order[low:high]
