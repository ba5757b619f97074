"""The metrics and answers of the candidates, as the rule of the choice reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from benchmarks.choose.policy import Policy
from benchmarks.results.candidate import measured
from benchmarks.results.run import RunResults
from core.stats import Bools, Floats, Ints

FRAMES = {
    "right_n": "of the objects in labeled frames are named rightly",
    "quiet_n": "of the labeled frames have no false alarm",
}
"""{array of FramesAccuracy: its description}: the comparisons on labeled frames, in this order."""


@dataclass(frozen=True, eq=False)
class CandidateMetrics:
    """The metrics and the answers of one candidate, as the rule reads them."""

    name: str
    labels_n: Ints
    predicted_n: Ints
    """The same rows for every candidate; -1 where they were not measured."""
    classes: tuple[str, ...]
    metrics: Mapping[str, float | None]
    """{name in BUDGETS, FLOORS or OBJECTIVES: value}; None or absent where it was not measured."""
    why_not: str = ""
    """The reason why it may never be chosen, whatever the policy; empty where it may."""
    frames: Mapping[str, Bools] = field(default_factory=dict)
    """{key of FRAMES: right or not, over the same labeled frames for all}; empty where not measured."""
    frame_of: Mapping[str, Ints] = field(default_factory=dict)
    """{key of FRAMES: the frame of each}, where several are of one frame and therefore alike."""

    @property
    def correct_n(self) -> Bools:
        """Whether each test row was answered correctly."""
        return np.asarray(self.labels_n == self.predicted_n)

    def metric(self, name: str) -> float | None:
        """Return the value of a metric; accuracy and worst recall are computed from the answers. None: not measured."""
        if name == "accuracy":
            return float(np.mean(self.correct_n))
        if name == "worst_recall":
            # a class without a test row has no recall
            return min(float(self.correct_n[self.labels_n == c].mean()) for c in np.unique(self.labels_n))
        return self.metrics.get(name)

    def minimized(self, name: str) -> float:
        """Return the metric, signed so that less is better; infinity where it was not measured."""
        value = self.metric(name)
        return float("inf") if value is None else -value if name == "accuracy" else value

    def weights(self, policy: Policy) -> Floats:
        """Return the cost of missing each row, float64 (n,)."""
        return np.array([policy.cost(name) for name in self.classes])[self.labels_n]

    def utility(self, policy: Policy) -> float:
        """Return the accuracy with each row weighted by the cost of missing it."""
        weights = self.weights(policy)
        return float(weights @ self.correct_n / weights.sum())


def metrics_of(results: RunResults) -> list[CandidateMetrics]:
    """Return the metrics and answers of every measured candidate."""
    found = []
    for row in results.candidates:
        accuracy = measured(row.accuracy)
        age = measured(row.age_ms)
        robustness = measured(row.robustness)
        frames = measured(row.frames)
        metrics = {
            "p50_ms": row.latency.frame_ms.p50,
            "p99_ms": row.latency.frame_ms.p99,
            "age_ms": age.p99 if age else None,
            "size_mb": row.bytes / 1e6,
            "energy_mj": measured(row.energy_mj),
            "cold_start_ms": measured(row.cold_start_ms),
            "ece": accuracy.ece if accuracy else None,
            "corruption_accuracy": robustness.mean if robustness else None,
            "false_alarms_per_100": frames.false_alarms_per_100 if frames and frames.empty_regions else None,
            "frame_recall": frames.objects.recall if frames and frames.objects.n else None,
        }
        if frames:
            metrics |= {f"frame_recalls.{label}": counts.recall for label, counts in frames.by_class.items()}
        on_frames = {name: getattr(frames, name) == 1 for name in FRAMES if frames and len(getattr(frames, name))}
        # -1 is no class, so that every row counts as wrong
        predicted_n = accuracy.predicted_n if accuracy else np.full(len(results.labels_n), -1)
        facts = row.name, results.labels_n, predicted_n, results.pack.classes, metrics, row.why_not
        frame_of = {"right_n": frames.frame_of_n} if frames and len(frames.frame_of_n) else {}
        found.append(CandidateMetrics(*facts, on_frames, frame_of))
    return found
