"""The health of a pack: balance of its classes, sizes of its pictures, and pictures that it holds twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.geometry.frame import Bytes
from training.data.decode import Row
from training.data.duplicates import Twins, find_twins

SIZE_EDGES_PX = (0, 16, 32, 64, 128, 256, 512)
IMBALANCE = 5.0
"""From this ratio of the largest class to the smallest on, a warning is due."""
EXAMPLES = 50


@dataclass(frozen=True)
class Health:
    """What was found in the rows of a pack."""

    rows: list[Row]
    classes: tuple[str, ...]
    size_px: int
    twins: list[Twins]
    """Pairs of rows that show one picture, those of two splits first."""

    @property
    def leaks(self) -> list[Twins]:
        """The pairs that stand in two splits. Two drawn rows never are one: sky looks like sky in any split."""
        pairs = [(t, self.rows[t.first], self.rows[t.second]) for t in self.twins]
        apart = [(t, a, b) for t, a, b in pairs if a.judged_in != b.judged_in]
        return [t for t, a, b in apart if not (a.sample.drawn and b.sample.drawn)]

    @property
    def contradictions(self) -> list[Twins]:
        """The pairs that stand in two classes."""
        return [t for t in self.twins if self.rows[t.first].sample.label != self.rows[t.second].sample.label]

    @property
    def warnings(self) -> list[str]:
        """What a person should know before training on this, a sentence each."""
        found, counts = [], Counter(row.sample.label for row in self.rows)
        (most, large), (least, small) = counts.most_common()[0], counts.most_common()[-1]
        if large >= IMBALANCE * small:
            found.append(f"the class {most} has {large / small:.1f} times the rows of {least}")
        if leaks := self.leaks:
            found.append(f"one picture in two splits, {len(leaks)} times: {self.describe(leaks[0])}")
        if pairs := self.contradictions:
            found.append(f"one picture in two classes, {len(pairs)} times: {self.describe(pairs[0])}")
        return found

    def leaking_groups(self) -> list[tuple[str, str]]:
        """Return the two groups of each leak."""
        return [(self.rows[t.first].sample.group, self.rows[t.second].sample.group) for t in self.leaks]

    def describe(self, twins: Twins) -> str:
        """Name both rows of a pair."""
        first, second = (
            f"{row.sample.source}{f' {row.done.rect}' if row.done.rect else ''} ({row.split}, {row.sample.label})"
            for row in (self.rows[twins.first], self.rows[twins.second])
        )
        same = "the same pixels" if twins.exact else "one picture, mirrored" if twins.mirrored else "one picture"
        return f"{first} and {second} are {same}"

    def as_json(self) -> dict[str, Any]:
        """Return what stands in pack.json."""
        sides = [min(row.done.size_wh) for row in self.rows]
        return {
            "classes": {name: self._class_facts(name) for name in self.classes},
            "size_edges_px": list(SIZE_EDGES_PX),
            "enlarged": sum(side < self.size_px for side in sides),
            "exact_duplicates": sum(t.exact for t in self.twins),
            "near_duplicates": sum(not t.exact for t in self.twins),
            "mirrored": sum(t.mirrored for t in self.twins),
            "across_splits": len(self.leaks),
            "across_classes": len(self.contradictions),
            "examples": [self._pair_facts(t) for t in self.shown()],
        }

    def shown(self) -> list[Twins]:
        """Return the pairs to show: leaks, contradictions, then others."""
        return list(dict.fromkeys([*self.leaks, *self.contradictions, *self.twins]))[:EXAMPLES]

    def _class_facts(self, name: str) -> dict[str, Any]:
        sides = [min(row.done.size_wh) for row in self.rows if row.sample.label == name]
        if not sides:
            return {"rows": 0, "share": 0.0, "short_side_px": None, "sizes": [0] * len(SIZE_EDGES_PX)}
        return {
            "rows": len(sides),
            "share": round(len(sides) / len(self.rows), 4),
            "short_side_px": {"min": min(sides), "median": int(np.median(sides)), "max": max(sides)},
            "sizes": np.histogram(sides, [*SIZE_EDGES_PX, 1 << 30])[0].tolist(),
        }

    def _pair_facts(self, twins: Twins) -> dict[str, Any]:
        rows = self.rows[twins.first], self.rows[twins.second]
        sides = [
            {
                "row": at,
                "source": row.sample.source,
                "box": row.done.rect,
                "split": row.split,
                "label": row.sample.label,
            }
            for at, row in zip((twins.first, twins.second), rows, strict=True)
        ]
        return {"first": sides[0], "second": sides[1], "exact": twins.exact, "mirrored": twins.mirrored}


def examine(rows: Sequence[Row], classes: tuple[str, ...], images_nhwc: Bytes) -> Health:
    """Examine the rows of a pack and their images."""
    splits = ("train", "val", "test")
    twins = find_twins(
        [row.done.sha256 for row in rows],
        np.array([row.done.hashes for row in rows], np.uint64),
        images_nhwc,
        np.array([splits.index(row.judged_in) for row in rows]),
    )
    return Health(list(rows), classes, images_nhwc.shape[1], twins)
