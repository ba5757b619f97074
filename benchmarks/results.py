"""The results of a run, as `measure` makes them: one frozen dataclass for each candidate and one for the whole run.

A figure that was not measured is `NotMeasured(reason)`. What was chosen from the results is in `choose.choice`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np

from benchmarks.artifact_results import Artifacts
from benchmarks.frame_results import FramesAccuracy
from core.errors import InputError
from core.stats import Bin, Bools, Floats, Interval, Ints, Summary

SAME_WITHIN = 0.025
"""Relative difference under which two medians count as the same, and spread of rounds that makes a run noisy."""
Figure = TypeVar("Figure")


@dataclass(frozen=True)
class NotMeasured:
    """Stands in place of a figure that was not measured."""

    not_measured: str
    """The reason."""


def measured(figure: Figure | NotMeasured) -> Figure | None:
    """Return the figure; None where it was not measured."""
    return None if isinstance(figure, NotMeasured) else figure


@dataclass(frozen=True)
class CandidateKey:
    """The four parts that name a candidate of a run."""

    arch: str
    """The folder of the architecture inside the run."""
    precision: str
    backend: str
    threads: int

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise InputError(f"threads is {self.threads}: give 1 or more")

    @property
    def name(self) -> str:
        """A name that is unique in the run."""
        return f"{self.arch} {self.precision} {self.backend} x{self.threads}"


@dataclass(frozen=True)
class Recall:
    """The part of a class's test rows that is answered rightly."""

    n: int
    recall: float | NotMeasured
    interval: Interval


@dataclass(frozen=True, eq=False)
class Accuracy:
    """The answers to the test rows, and the figures computed from them."""

    predicted_n: Ints
    top_n: Floats
    """The probability of each answer."""
    n: int
    hits: int
    top1: float
    interval: Interval
    balanced: float
    recalls: dict[str, Recall]
    confusion: Ints
    """Rows by true class and answer."""
    ece: float
    bins: tuple[Bin, ...]
    risk_coverage: tuple[tuple[float, float], ...]
    """(coverage, error) points: the error among the surest answers, of ever more rows."""
    aurc: float


@dataclass(frozen=True, eq=False)
class Latency:
    """Times of a frame back to back, in milliseconds."""

    frame_ms: Summary
    """The whole frame step of the runner, from the source's frame to the decision."""
    engine_ms: Summary
    """The engine's call alone."""
    rounds_ms: Floats
    """The time of every frame, float64 (rounds, calls of a turn)."""

    @property
    def undisturbed_ms(self) -> Floats:
        """The lower quartile of each round's frame times, (rounds,).

        Other processes can only add time, so the quartile is disturbed less than the median: on a core shared with
        four of them, the interval of a ratio of two candidates was a tenth as wide.
        """
        return np.asarray(np.quantile(self.rounds_ms, 0.25, axis=1), np.float64)


@dataclass(frozen=True)
class OutOfDistribution:
    """The answers to one kind of pictures that show no class."""

    n: int
    abstained: float
    auroc: float
    """The probability that a known row has a higher top probability than such a picture."""


@dataclass(frozen=True)
class Robustness:
    """Accuracy under corruption, and on out-of-distribution pictures."""

    measured_on: str
    """The backend; each network and precision is measured once, on its fastest."""
    rows: int
    severities: tuple[int, ...]
    clean: float
    clean_interval: Interval
    mean: float
    worst_class: str
    worst_recall: float
    cells: dict[str, tuple[float, ...]]
    """{corruption: its accuracy at each severity}."""
    ood: dict[str, OutOfDistribution]
    known_abstained: float
    """The part of the clean rows on which the runner abstains."""

    @property
    def kept(self) -> float:
        """The part of the clean accuracy that is left; 0 where there is none."""
        return self.mean / self.clean if self.clean else 0.0


@dataclass(frozen=True, eq=False)
class CandidateResult(CandidateKey):
    """All that was measured of one candidate."""

    size_px: int
    bytes: int
    opened: dict[str, object]
    """What the open backend describes itself as; `file` is the file that it runs."""
    latency: Latency
    why_not: str
    """The reason why it may never be chosen, whatever the policy; empty where it may."""
    accuracy: Accuracy | NotMeasured
    cold_start_ms: float | NotMeasured = NotMeasured("it may not be chosen")
    age_ms: Summary | NotMeasured = NotMeasured("no paced run was made with it")
    robustness: Robustness | NotMeasured = NotMeasured("this profile leaves it out")
    energy_mj: float | NotMeasured = NotMeasured("nothing here meters power")
    frames: FramesAccuracy | NotMeasured = NotMeasured("the pack holds no labeled frames")

    @property
    def selectable(self) -> bool:
        """Whether it may be chosen."""
        return not self.why_not


@dataclass(frozen=True)
class Unmeasured:
    """A precision on a backend that could not be measured on this machine, and the reason."""

    arch: str
    precision: str
    backend: str
    reason: str


@dataclass(frozen=True)
class Noise:
    """The noise of the timing: an A/A control and the spread between rounds.

    The A/A control is one candidate that is opened twice and timed like two: any difference between the two is noise.
    """

    control: str
    """The candidate that was opened twice."""
    ratio: Interval
    """Bootstrap interval of the second's undisturbed time over the first's; it decides whether they are the same."""
    median_ratio: Interval
    """The same of their medians, by which candidates are ranked; it sets the noise floor."""
    spread: float
    """The largest coefficient of variation of a candidate's round medians."""

    @property
    def same(self) -> bool:
        """Whether the two count as the same; false only where the whole interval is outside."""
        return is_same(self.ratio)

    @property
    def noisy(self) -> bool:
        """Whether the report marks the whole table as noisy."""
        return not self.same or self.spread > SAME_WITHIN

    @property
    def floor(self) -> float:
        """The relative difference of times that is within the noise."""
        return max(noise_floor(self.ratio), noise_floor(self.median_ratio))


def noise_floor(ratio: Interval) -> float:
    """Return the relative difference that is within the noise of an A/A control with this interval."""
    return max(ratio.high - 1, 1 - ratio.low, SAME_WITHIN)


def is_same(ratio: Interval) -> bool:
    """Say whether an interval of a ratio touches 1 +- SAME_WITHIN."""
    return ratio.low <= 1 + SAME_WITHIN and ratio.high >= 1 / (1 + SAME_WITHIN)


@dataclass(frozen=True)
class Window:
    """A part of a sustained run: the minute at its end, each candidate's median, each meter's mean."""

    minute: float
    p50_ms: dict[str, float]
    meters: dict[str, float]


@dataclass(frozen=True)
class RankChange:
    """Two candidates that changed places by more than the noise, and the first minute of it."""

    minute: float
    faster: str
    """The slower of the two in the first window."""
    slower: str


@dataclass(frozen=True)
class Sustained:
    """Sustained load: every candidate in turns, for minutes."""

    minutes: float
    windows: tuple[Window, ...]
    drift: dict[str, float]
    """{candidate: the median of its last quarter over that of its first}."""
    rank_changes: tuple[RankChange, ...]
    sentence: str

    @property
    def meters(self) -> list[str]:
        """The names of the meters that could be read."""
        return sorted({name for window in self.windows for name in window.meters})


@dataclass(frozen=True, eq=False)
class SeedResult:
    """The same training with another seed."""

    run: str
    seed: int | None
    predicted_n: dict[str, Ints]
    """{candidate: its answers to the test rows}; empty where that run was not exported."""
    trained: dict[str, float]
    """{architecture: test accuracy of the network as trained}."""


@dataclass(frozen=True)
class Seeds:
    """The run beside the same training with other seeds."""

    trained: dict[str, float]
    others: tuple[SeedResult, ...]


@dataclass(frozen=True)
class MachineFacts:
    """The machine that the figures were measured on."""

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
    """What the profile cuts from the full one, a phrase each."""
    seconds: dict[str, float]
    """{part of the measurement: its seconds}."""


@dataclass(frozen=True, eq=False)
class RunResults:
    """All that was measured of a run on one machine."""

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
        return {row.name: row for row in self.candidates}

    def correct_n(self, accuracy: Accuracy) -> Bools:
        """Return whether each test row was answered rightly."""
        return np.asarray(accuracy.predicted_n == self.labels_n)
