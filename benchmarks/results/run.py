"""The results of a run on one machine: candidates, noise of the timing, sustained load, seeds, machine."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from benchmarks.results.artifacts import Artifacts
from benchmarks.results.candidate import Accuracy, CandidateResult, NotMeasured, Unmeasured
from core.stats import Bools, Interval, Ints

SAME_WITHIN = 0.025
"""Relative difference below which two times count as the same, and spread of rounds above which a run is noisy."""


@dataclass(frozen=True)
class Noise:
    """The noise of the timing: an A/A control, and the spread between rounds.

    The control is a candidate that is opened twice and timed like two, so that any difference between them is noise.
    """

    control: str
    """The candidate that was opened twice."""
    ratio: Interval
    """Bootstrap interval of the second undisturbed time over the first; it decides whether they count as the same."""
    median_ratio: Interval
    """The same interval of the median times, by which candidates are ranked."""
    spread: float
    """The largest coefficient of variation of a candidate's round medians."""

    @property
    def same(self) -> bool:
        """Whether the two count as the same; false only where the whole interval is beyond SAME_WITHIN."""
        return is_same(self.ratio)

    @property
    def noisy(self) -> bool:
        """Whether the report warns that all times are noisy."""
        return not self.same or self.spread > SAME_WITHIN

    @property
    def floor(self) -> float:
        """The relative difference of times that is within the noise."""
        return max(noise_floor(self.ratio), noise_floor(self.median_ratio))


def noise_floor(ratio: Interval) -> float:
    """Return the relative difference that is within the noise of an A/A control with this interval."""
    # never under SAME_WITHIN: a quiet minute of the control does not make the other minutes quiet
    return max(ratio.high - 1, 1 - ratio.low, SAME_WITHIN)


def is_same(ratio: Interval) -> bool:
    """Tell whether an interval of a ratio overlaps with 1 +- SAME_WITHIN."""
    # 1 / (1 + x) and not 1 - x: which of the two was timed first must not matter
    return ratio.low <= 1 + SAME_WITHIN and ratio.high >= 1 / (1 + SAME_WITHIN)


@dataclass(frozen=True)
class Window:
    """A window of a sustained run: the minute of its end, the median of each candidate, the mean of each meter."""

    minute: float
    p50_ms: dict[str, float]
    meters: dict[str, float]


@dataclass(frozen=True)
class RankChange:
    """Two candidates whose order reversed beyond the noise, and the first minute of that."""

    minute: float
    faster: str
    """The one that is faster now; it was the slower one in the first window."""
    slower: str


@dataclass(frozen=True)
class Sustained:
    """The results of sustained load: all candidates in turns, for minutes."""

    minutes: float
    windows: tuple[Window, ...]
    drift: dict[str, float]
    """{candidate: its median time in the last quarter over that in the first}."""
    rank_changes: tuple[RankChange, ...]
    sentence: str

    @property
    def meters(self) -> list[str]:
        """The names of the meters that could be read."""
        return sorted({name for window in self.windows for name in window.meters})


@dataclass(frozen=True, eq=False)
class SeedResult:
    """The answers and accuracies of the same training with another seed."""

    run: str
    seed: int | None
    predicted_n: dict[str, Ints]
    """{candidate: its answers to the test rows}; empty where that run was not exported."""
    trained: dict[str, float]
    """{architecture: test accuracy of the network as trained}."""


@dataclass(frozen=True)
class Seeds:
    """The accuracies of this run as trained, and the results of the same training with other seeds."""

    trained: dict[str, float]
    others: tuple[SeedResult, ...]


@dataclass(frozen=True)
class MachineFacts:
    """The machine that ran the measurement."""

    name: str
    cpu: str
    cores: int
    memory_gb: float
    system: str
    architecture: str
    python: str
    packages: dict[str, str]
    meters: str
    """Clock, temperature and power before the run; empty without a meter."""
    load_average: tuple[float, ...]


@dataclass(frozen=True)
class PackFacts:
    """The pack whose test rows were answered."""

    fingerprint: str
    classes: tuple[str, ...]
    background: str | None


@dataclass(frozen=True)
class Protocol:
    """The settings of the measurement."""

    source: str
    """The source of the frames."""
    calls_per_turn: int
    warm_ups_per_turn: int
    cut: tuple[str, ...]
    """What the profile measures less than the full one, a phrase each."""
    seconds: dict[str, float]
    """{part of the measurement: its duration in seconds}."""
    regions: str = "one zone"
    """The regions that were timed, in words."""


@dataclass(frozen=True, eq=False)
class RunResults:
    """The measurements of a run on one machine."""

    made_at: str
    run: str
    synthetic: bool
    machine: MachineFacts
    pack: PackFacts
    labels_n: Ints
    """The true classes of the test rows."""
    protocol: Protocol
    noise: Noise
    candidates: tuple[CandidateResult, ...]
    unmeasured: tuple[Unmeasured, ...]
    other_sizes: tuple[CandidateResult, ...]
    """Bundles of another input size, for latency only."""
    seeds: Seeds | NotMeasured
    sustained: Sustained | NotMeasured
    artifacts: Artifacts

    @cached_property
    def by_name(self) -> dict[str, CandidateResult]:
        """The candidates by their names."""
        return {result.name: result for result in self.candidates}

    def correct_n(self, accuracy: Accuracy) -> Bools:
        """Return whether each test row was answered correctly."""
        return np.asarray(accuracy.predicted_n == self.labels_n)
