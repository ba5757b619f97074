"""The health of a pack: class balance, picture sizes, and duplicates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.geometry.frame import Bytes
from training.data.decode import PackRow
from training.data.duplicates import DuplicatePair, find_duplicates

SIZE_EDGES_PX = (0, 16, 32, 64, 128, 256, 512)
IMBALANCE = 5.0
"""A warning is given when the largest class has this many times the rows of the smallest."""
EXAMPLES = 50


@dataclass(frozen=True)
class Health:
    """Findings about the rows of a pack."""

    rows: list[PackRow]
    classes: tuple[str, ...]
    size_px: int
    duplicates: list[DuplicatePair]
    """Pairs of rows that show one picture, those of two splits first."""

    @property
    def cross_split_duplicates(self) -> list[DuplicatePair]:
        """The pairs in two splits, except pairs of two drawn background rows, such as two patches of sky."""
        found = []
        for pair in self.duplicates:
            first = self.rows[pair.first]
            second = self.rows[pair.second]
            both_unmarked = first.sample.unmarked and second.sample.unmarked
            if first.eval_split != second.eval_split and not both_unmarked:
                found.append(pair)
        return found

    @property
    def contradictions(self) -> list[DuplicatePair]:
        """The pairs whose rows have different classes."""
        labels = [row.sample.label for row in self.rows]
        return [pair for pair in self.duplicates if labels[pair.first] != labels[pair.second]]

    @property
    def warnings(self) -> list[str]:
        """Warnings for the person who trains on the pack, one sentence each."""
        found = []
        counts = Counter(row.sample.label for row in self.rows)
        (most, large), (least, small) = counts.most_common()[0], counts.most_common()[-1]
        if large >= IMBALANCE * small:
            found.append(f"the class {most} has {large / small:.1f} times the rows of {least}")
        if leaks := self.cross_split_duplicates:
            found.append(f"one picture in two splits, {len(leaks)} times: {self.describe(leaks[0])}")
        if pairs := self.contradictions:
            found.append(f"one picture in two classes, {len(pairs)} times: {self.describe(pairs[0])}")
        return found

    def groups_to_join(self) -> list[tuple[str, str]]:
        """Return the groups of each pair, also of pairs in one split, which redrawn splits could separate."""
        samples = [row.sample for row in self.rows]
        pairs = ((samples[pair.first], samples[pair.second]) for pair in self.duplicates)
        return [(a.group, b.group) for a, b in pairs if not (a.unmarked and b.unmarked)]

    def describe(self, pair: DuplicatePair) -> str:
        """Return a sentence that names both rows of a pair."""
        places = []
        for row in (self.rows[pair.first], self.rows[pair.second]):
            rect = f" {row.result.rect}" if row.result.rect else ""
            places.append(f"{row.sample.source}{rect} ({row.split}, {row.sample.label})")
        same = "the same pixels" if pair.exact else "one picture, mirrored" if pair.mirrored else "one picture"
        return f"{' and '.join(places)} are {same}"

    def as_json(self) -> dict[str, Any]:
        """Return the `health` object of pack.json."""
        sides = [min(row.result.size_wh) for row in self.rows]
        return {
            "classes": {name: self._class_summary(name) for name in self.classes},
            "size_edges_px": list(SIZE_EDGES_PX),
            "enlarged": sum(side < self.size_px for side in sides),
            "exact_duplicates": sum(t.exact for t in self.duplicates),
            "near_duplicates": sum(not t.exact for t in self.duplicates),
            "mirrored": sum(t.mirrored for t in self.duplicates),
            "across_splits": len(self.cross_split_duplicates),
            "across_classes": len(self.contradictions),
            "examples": [self._pair_summary(t) for t in self.example_pairs()],
        }

    def example_pairs(self) -> list[DuplicatePair]:
        """Return the pairs to show: first those across splits, then those across classes, then others."""
        # a dict keeps the order and drops what is repeated
        return list(dict.fromkeys([*self.cross_split_duplicates, *self.contradictions, *self.duplicates]))[:EXAMPLES]

    def _class_summary(self, name: str) -> dict[str, Any]:
        sides = [min(row.result.size_wh) for row in self.rows if row.sample.label == name]
        if not sides:
            return {"rows": 0, "share": 0.0, "short_side_px": None, "sizes": [0] * len(SIZE_EDGES_PX)}
        return {
            "rows": len(sides),
            "share": round(len(sides) / len(self.rows), 4),
            "short_side_px": {"min": min(sides), "median": int(np.median(sides)), "max": max(sides)},
            "sizes": np.histogram(sides, [*SIZE_EDGES_PX, 1 << 30])[0].tolist(),  # the last bin has no upper edge
        }

    def _pair_summary(self, pair: DuplicatePair) -> dict[str, Any]:
        first = self._row_summary(pair.first)
        second = self._row_summary(pair.second)
        return {"first": first, "second": second, "exact": pair.exact, "mirrored": pair.mirrored}

    def _row_summary(self, number: int) -> dict[str, Any]:
        row = self.rows[number]
        sample, box = row.sample, row.result.rect
        return {"row": number, "source": sample.source, "box": box, "split": row.split, "label": sample.label}


def examine(rows: Sequence[PackRow], classes: tuple[str, ...], images_nhwc: Bytes) -> Health:
    """Examine the rows of a pack and their images."""
    # calibration rows are rows of train: a copy in both is no leak
    splits = ("train", "val", "test")
    duplicates = find_duplicates(
        [row.result.sha256 for row in rows],
        np.array([row.result.hashes for row in rows], np.uint64),
        images_nhwc,
        np.array([splits.index(row.eval_split) for row in rows]),
    )
    return Health(list(rows), classes, images_nhwc.shape[1], duplicates)
