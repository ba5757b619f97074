"""Find duplicate pictures in a pack: the same bytes, or one picture re-encoded, scaled or mirrored.

A perceptual hash, 64 bits of which few change when a picture is re-encoded, finds candidates; their pixels decide.
"""

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
"""Side of the gray picture that imagehash's pHash is computed from."""
BLOCKS_PX = 16
"""Side of the shrunk picture whose colors are compared."""
MAX_BITS = 6
"""Largest number of differing bits in two hashes of one picture, after JPEG at quality 50 or at half the size."""
BANDS = 7
"""Parts of a hash. They are one more than MAX_BITS, so that two near hashes have at least one equal part."""
MIN_CONTRAST = 6.0
"""Least standard deviation, in gray levels; flatter pictures cannot be told apart by content."""
MIN_DETAIL = 0.9
"""Least correlation of the fine detail of one picture: it is 0.91 to 0.99 after JPEG at quality 50 to 90 at 64 px."""
MAX_LEVELS = 24
"""Largest difference of a block of one picture, in gray levels. At 64 px JPEG at quality 75 changes a block by 23 at
most, at quality 50 so in 9 of 10 pictures; a person who steps into a fixed camera's view changes one by more."""
MAX_PAIRS = 200_000
"""The largest number of candidate pairs, so that a pack of one repeated picture is finished in time."""
COMPARED_AT_ONCE = 10_000_000
"""The largest number of pairs of hashes in memory."""


@dataclass(frozen=True, slots=True)
class DuplicatePair:
    """Two rows that show one picture; `first` < `second`."""

    first: int
    second: int
    exact: bool
    mirrored: bool


def shrink_to_gray(image_rgb: Bytes) -> Bytes:
    """Return a picture, uint8 (S, S, 3), in gray and shrunk to (32, 32)."""
    gray = cv2.cvtColor(image_rgb, cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.resize(gray, (SMALL_PX, SMALL_PX), interpolation=cv2.INTER_AREA), np.uint8)


def hash_picture(image_rgb: Bytes) -> tuple[int, int]:
    """Return the perceptual hashes, 64 bits each, of a picture and of its mirror image; 0, 0 for a flat one."""
    import imagehash  # only packing needs it; training on a pack must not
    from PIL import Image

    gray = shrink_to_gray(image_rgb)
    if gray.std() < MIN_CONTRAST:
        return 0, 0
    mirror = np.ascontiguousarray(gray[:, ::-1])
    upright_bits, mirror_bits = (imagehash.phash(Image.fromarray(image)).hash for image in (gray, mirror))
    return _pack_bits(upright_bits), _pack_bits(mirror_bits)


def find_duplicates(
    sha256: Sequence[bytes], hashes_n2: Hashes, images_nhwc: Bytes, split_n: NDArray[np.int64]
) -> list[DuplicatePair]:
    """Return the pairs of rows that show one picture, with pairs of rows in two splits first.

    A row that is equal to many others is paired only with the first of them in each split.
    """
    duplicates = {}
    for pair in _equal_rows(sha256, split_n):
        duplicates[pair] = DuplicatePair(*pair, exact=True, mirrored=False)
    # a copy has all near duplicates in common with the first row of its pixels, which is compared in its place
    copies = {second for first, second in duplicates if split_n[first] == split_n[second]}
    textured = np.flatnonzero(hashes_n2[:, 0])  # a flat picture has hash 0
    for mirrored in (False, True):
        left_n = hashes_n2[textured, 0]
        right_n = hashes_n2[textured, int(mirrored)]
        for first, second in textured[near_pairs(left_n, right_n, split_n[textured])].tolist():
            pair = first, second
            if pair in duplicates or copies.intersection(pair):
                continue
            if is_same_picture(images_nhwc[first], images_nhwc[second], mirrored):
                duplicates[pair] = DuplicatePair(*pair, exact=False, mirrored=mirrored)

    # False sorts before True: pairs of two splits, which would leak into the test accuracy, come first
    def key(pair: DuplicatePair) -> tuple[bool, int, int]:
        return bool(split_n[pair.first] == split_n[pair.second]), pair.first, pair.second

    return sorted(duplicates.values(), key=key)


def near_pairs(left_n: Hashes, right_n: Hashes, split_n: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return pairs (i, j), i < j, whose hashes left[i] and right[j] differ by at most MAX_BITS; two splits first.

    At most 6 differing bits leave one of 7 parts of a hash untouched, so only hashes that share a part are compared:
    comparing all pairs of a large pack would take hours.
    """
    across: set[tuple[int, int]] = set()
    within: set[tuple[int, int]] = set()
    edges = np.linspace(0, 64, BANDS + 1).astype(int).tolist()
    for low, high in pairwise(edges):
        # the part of every hash from bit low to bit high
        shift = np.uint64(low)
        mask = np.uint64((1 << (high - low)) - 1)
        left_parts = left_n >> shift & mask
        right_parts = right_n >> shift & mask
        for i_n, j_n in _with_equal_keys(left_parts, right_parts):
            # an outer comparison of all hashes that share this part: the number of differing bits of each pair
            differing = np.bitwise_count(left_n[i_n][:, None] ^ right_n[j_n][None])
            ordered = i_n[:, None] < j_n[None]
            at_i, at_j = np.nonzero((differing <= MAX_BITS) & ordered)
            first_n, second_n = i_n[at_i], j_n[at_j]
            in_two_splits = split_n[first_n] != split_n[second_n]
            # sets, because a pair that shares several parts is found once for each
            for pairs, chosen in ((across, in_two_splits), (within, ~in_two_splits)):
                if len(pairs) < MAX_PAIRS:
                    pairs.update(zip(first_n[chosen].tolist(), second_n[chosen].tolist(), strict=True))
    found = (sorted(across) + sorted(within))[:MAX_PAIRS]
    return np.array(found, np.int64).reshape(-1, 2)  # (0, 2) where there is no pair


def is_same_picture(a_rgb: Bytes, b_rgb: Bytes, mirrored: bool) -> bool:
    """Tell whether two pictures with near hashes are one: their colors agree everywhere, and so does fine detail.

    Block colors find an object that came into view; fine detail separates two pictures of the same layout, such as sky.
    """
    if mirrored:
        b_rgb = np.ascontiguousarray(b_rgb[:, ::-1])
    if cv2.absdiff(_block_colors(a_rgb), _block_colors(b_rgb)).max() > MAX_LEVELS:
        return False
    x = _fine_detail(shrink_to_gray(a_rgb)).ravel()
    y = _fine_detail(shrink_to_gray(b_rgb)).ravel()
    # their correlation is at least MIN_DETAIL; multiplied out, because a flat picture has x @ x = 0
    return bool(x @ y >= MIN_DETAIL * np.sqrt((x @ x) * (y @ y)))


def _block_colors(image_rgb: Bytes) -> Bytes:
    """Return the mean color of each of 16 x 16 blocks, blurred first so that a small shift changes little."""
    smooth = cv2.GaussianBlur(image_rgb, (0, 0), len(image_rgb) / 64)
    return np.asarray(cv2.resize(smooth, (BLOCKS_PX, BLOCKS_PX), interpolation=cv2.INTER_AREA), np.uint8)


def _fine_detail(gray: Bytes) -> NDArray[np.float32]:
    """Return a gray picture minus its blurred copy."""
    level = gray.astype(np.float32)
    return np.asarray(level - cv2.GaussianBlur(level, (0, 0), 2), np.float32)


def _pack_bits(bits: NDArray[np.bool_]) -> int:
    """Return 64 bits as one number."""
    return int(np.packbits(bits.ravel()).view(np.uint64)[0])


def _equal_rows(sha256: Sequence[bytes], split_n: NDArray[np.int64]) -> Iterable[tuple[int, int]]:
    """Yield (first, row) for each row whose pixels equal those of an earlier row that is the first in its split."""
    rows_of: defaultdict[bytes, list[int]] = defaultdict(list)
    for row, digest in enumerate(sha256):
        rows_of[digest].append(row)
    for rows in rows_of.values():
        firsts = {int(split_n[row]): row for row in reversed(rows)}  # reversed: the first row of a split stays
        for row in rows:
            yield from ((first, row) for first in firsts.values() if first < row)


def _with_equal_keys(left_n: Hashes, right_n: Hashes) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield, for each key, the indices at which left has it and those at which right has it."""
    if not len(left_n):
        return
    # both sides sorted by key: a key's indices are left_order[start:end] and right_order[low:high]
    left_order = np.argsort(left_n, kind="stable")
    right_order = np.argsort(right_n, kind="stable")
    keys, starts = np.unique(left_n[left_order], return_index=True)
    ends = np.append(starts[1:], len(left_n))
    right_sorted = right_n[right_order]
    lows = np.searchsorted(right_sorted, keys, "left")
    highs = np.searchsorted(right_sorted, keys, "right")
    for start, end, low, high in zip(starts, ends, lows, highs, strict=True):
        # in blocks: the outer comparison of a key that all hashes have must not fill the memory
        each = max(1, COMPARED_AT_ONCE // max(1, high - low))
        for at in range(start, end, each):
            yield left_order[at : min(at + each, end)], right_order[low:high]
