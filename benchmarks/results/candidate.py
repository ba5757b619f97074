"""The results of a candidate: its time, accuracy, robustness and figures on frames.

A figure that was not measured is `NotMeasured(reason)`. What was chosen from the results is in `choose.choice`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from benchmarks.results.frames import FramesAccuracy
from core.errors import InputError
from core.stats import CalibrationBin, Floats, Interval, Ints, Summary

Value = TypeVar("Value")


@dataclass(frozen=True)
class NotMeasured:
    """Stands in place of a figure that was not measured."""

    not_measured: str
    """The reason."""


def measured(value: Value | NotMeasured) -> Value | None:
    """Return the figure; None where it was not measured."""
    return None if isinstance(value, NotMeasured) else value


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
    ece: float
    bins: tuple[CalibrationBin, ...]
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
