"""The results of one candidate: time, accuracy, robustness, and accuracy on labeled frames.

A value that was not measured is `NotMeasured(reason)`. The choice that is made from the results is in `choose.choice`.
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
    """Stands in place of a value that was not measured."""

    not_measured: str
    """The reason."""


def measured(value: Value | NotMeasured) -> Value | None:
    """Return the value; None where it was not measured."""
    return None if isinstance(value, NotMeasured) else value


@dataclass(frozen=True)
class CandidateKey:
    """The four properties that identify a candidate of a run."""

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
        """The name, which is unique in the run."""
        return f"{self.arch} {self.precision} {self.backend} x{self.threads}"


@dataclass(frozen=True)
class Recall:
    """The share of the test rows of a class that is answered correctly."""

    n: int
    recall: float | NotMeasured
    interval: Interval


@dataclass(frozen=True, eq=False)
class Accuracy:
    """The answers to the test rows, and the metrics computed from them."""

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
    """Points (coverage, error): the error among the rows with the highest probabilities, for growing coverage."""
    aurc: float
    """The area under the curve of error over coverage."""


@dataclass(frozen=True, eq=False)
class Latency:
    """Times of a frame in milliseconds, one frame right after the other."""

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
    """The answers to one kind of out-of-distribution images."""

    n: int
    abstained: float
    """The share of the images on which the runner abstains."""
    auroc: float
    """The probability that a clean test row has a higher top probability than such an image."""


@dataclass(frozen=True)
class Robustness:
    """Accuracy under corruption, and abstention on out-of-distribution images."""

    measured_on: str
    """The backend: the fastest one, on which each network and precision is measured once."""
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
    """The share of the clean test rows on which the runner abstains."""

    @property
    def kept(self) -> float:
        """The mean accuracy under corruption over the clean one; 0 where the clean one is 0."""
        return self.mean / self.clean if self.clean else 0.0


@dataclass(frozen=True, eq=False)
class CandidateResult(CandidateKey):
    """The measurements of one candidate."""

    size_px: int
    bytes: int
    opened: dict[str, object]
    """The description that the open backend gives of itself; `file` names the file that it runs.

    `detector` is there where one runs in front: its backend, and the file that this runs.
    """
    latency: Latency
    why_not: str
    """The reason why it may never be chosen, whatever the policy; empty where it may."""
    accuracy: Accuracy | NotMeasured
    cold_start_ms: float | NotMeasured = NotMeasured("it is not selectable")
    age_ms: Summary | NotMeasured = NotMeasured("no paced run was made with it")
    robustness: Robustness | NotMeasured = NotMeasured("this profile leaves it out")
    energy_mj: float | NotMeasured = NotMeasured("the machine has no meter of power")
    frames: FramesAccuracy | NotMeasured = NotMeasured("the pack holds no labeled frames")

    @property
    def selectable(self) -> bool:
        """Whether it may be chosen."""
        return not self.why_not


@dataclass(frozen=True)
class Unmeasured:
    """A precision on a backend that could not be measured on this machine; "all" stands for every one of them."""

    arch: str
    precision: str
    backend: str
    reason: str
