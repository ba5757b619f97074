"""The counts and times of a run, for summary.json, the page and Prometheus."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from inference.frame.decision import Decision

WINDOW = 65_536
"""Percentiles cover the last WINDOW frames, so that a run of any length needs the same memory."""


class LatencySeries:
    """Durations in milliseconds in a ring; the percentiles are of the last WINDOW of them, the maximum is of all."""

    def __init__(self) -> None:
        # filled now, so that the kernel allocates its pages at the start and memory does not grow during a run
        self._ring = np.full(WINDOW, np.nan, np.float32)
        self.n = 0
        self._max = 0.0

    def add(self, value_ms: float) -> None:
        """Add one duration."""
        self._ring[self.n % WINDOW] = value_ms
        self.n += 1
        self._max = max(self._max, value_ms)

    def as_json(self) -> dict[str, float] | None:
        """Return p50, p90, p99 and max in milliseconds, or None without a value."""
        if not self.n:
            return None
        # where the ring begins does not matter: a percentile has no order of time
        window = self._ring[: min(self.n, WINDOW)]
        p50, p90, p99 = np.percentile(window, (50, 90, 99))
        return {
            "p50": round(float(p50), 3),
            "p90": round(float(p90), 3),
            "p99": round(float(p99), 3),
            "max": round(self._max, 3),
        }


class RunStats:
    """Counts and times of the decisions of a run."""

    def __init__(self, classes: tuple[str, ...]) -> None:
        self._classes = frozenset(classes)
        self.frames = 0
        self.drops = 0
        self.age = LatencySeries()
        self.stages: dict[str, LatencySeries] = {}
        self.age_bases: Counter[str] = Counter()
        self.states: Counter[str] = Counter()
        self.said: Counter[str] = Counter()
        """Regions by the class that was reported, or by the reason or the state where none was."""
        self._scored: Counter[str] = Counter()
        self.unknown_labels: set[str] = set()

    def add(self, decision: Decision) -> None:
        """Add one decision."""
        self.frames += 1
        self.drops += decision.drops
        self.age.add(decision.age_ms)
        self.age_bases[decision.age_basis.value] += 1
        for name, value in decision.stages_ms.items():
            if name not in self.stages:
                self.stages[name] = LatencySeries()
            self.stages[name].add(value)
        self.states[decision.state.value] += 1
        for verdict in decision.verdicts:
            self.said[verdict.label or verdict.reason or verdict.state.value] += 1
            if verdict.truth is None:
                continue
            # a label that the model cannot say, as of a folder with more classes, would count as an error of the model
            if verdict.truth not in self._classes:
                self.unknown_labels.add(verdict.truth)
                continue
            self._scored["regions"] += 1
            self._scored["raw_right"] += verdict.top_unsmoothed == verdict.truth
            self._scored["said"] += verdict.label is not None
            self._scored["said_right"] += verdict.label == verdict.truth

    def accuracy(self) -> dict[str, Any] | None:
        """Return the accuracy against the source's truth, or None where it has none of the model's classes."""
        n = self._scored["regions"]
        if not n:
            return None
        said = self._scored["said"]
        return {
            "regions": n,
            "raw": round(self._scored["raw_right"] / n, 4),
            "said": round(said / n, 4),
            "right_of_said": round(self._scored["said_right"] / said, 4) if said else None,
        }

    def as_json(self) -> dict[str, Any]:
        """Return the counts and times as they stand in summary.json."""
        return {
            "frames": self.frames,
            "drops": self.drops,
            "age_ms": self.age.as_json(),
            "age_basis": dict(self.age_bases),
            "stages_ms": {name: series.as_json() for name, series in self.stages.items()},
            "states": dict(self.states),
            "said": dict(self.said),
            "accuracy": self.accuracy(),
            "truth_not_among_the_classes": sorted(self.unknown_labels),
        }
