"""The shared parts of the scripts of all tools: the job, the row of the table, and the timing."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, process_time
from typing import TypeVar

import numpy as np

from core.bundle.contract import Probs
from core.codec import from_json, to_json
from core.files import read_json, write_json
from core.geometry.frame import Bytes, Rect
from core.stats import Ints

WARM_UPS, FRAMES = 20, 300
Trained = TypeVar("Trained")


@dataclass(frozen=True)
class PeerJob:
    """The task of one tool. Paths are absolute; recipe, group and arch are for our own tools only."""

    data: str
    frames: str
    size: int
    epochs: int
    seed: int
    workers: int
    rect: Rect
    recipe: str
    group: str | None
    arch: str = ""
    out: str = ""
    """The folder that the tool may write into."""


@dataclass(frozen=True)
class TrainingTime:
    """Wall seconds, and processor seconds including child processes."""

    seconds: float
    cpu_seconds: float


@dataclass(frozen=True)
class FileComparison:
    """The exported file on the test rows: its accuracy, and its agreement with the network as trained."""

    n: int
    accuracy: float
    agreement: float
    max_dprob: float


@dataclass(frozen=True)
class FrameTimes:
    """Milliseconds of a frame."""

    p50: float
    p99: float
    cpu: float


@dataclass(frozen=True)
class PeerRow:
    """The result of a job: a row of the table."""

    network: str
    epochs: int
    images: int
    """The number of training images over all epochs."""
    training: TrainingTime
    files: FileComparison
    frame_ms: FrameTimes


def run_named_job(main: Callable[[PeerJob], PeerRow]) -> None:
    """Run the job whose file the command line names; write the row into its folder."""
    file = Path(sys.argv[1])
    job = from_json(PeerJob, read_json(file), str(file))
    # a file and not stdout, on which the tools print what they like
    write_json(Path(job.out) / "result.json", to_json(main(job)))


def time_training(train: Callable[[], Trained]) -> tuple[Trained, TrainingTime]:
    """Call `train`; return its result and its duration."""
    started, spent = perf_counter(), sum(os.times()[:4])  # user and system time, own and of ended children
    trained = train()
    return trained, TrainingTime(perf_counter() - started, sum(os.times()[:4]) - spent)


def compare_files(labels_n: Ints, trained_nc: Probs, exported_nc: Probs) -> FileComparison:
    """Compare the answers of the exported file with those of the network as trained."""
    answers_n = exported_nc.argmax(1)
    agreement = float((answers_n == trained_nc.argmax(1)).mean())
    largest = float(np.abs(exported_nc - trained_nc).max())
    return FileComparison(len(labels_n), float((answers_n == labels_n).mean()), agreement, largest)


def time_frames(job: PeerJob, answer: Callable[[Bytes], object]) -> FrameTimes:
    """Time the answers to the job's frames, one by one, after WARM_UPS untimed ones."""
    frames = np.load(job.frames)
    times_ms = []
    started_cpu_s = 0.0
    for i in range(-WARM_UPS, FRAMES):
        if i == 0:  # the warm-ups are over
            started_cpu_s = process_time()
        before = perf_counter()
        answer(frames[i % len(frames)])
        times_ms.append((perf_counter() - before) * 1000)
    cpu_ms = (process_time() - started_cpu_s) * 1000
    p50, p99 = np.quantile(times_ms[WARM_UPS:], (0.5, 0.99)).tolist()
    return FrameTimes(p50, p99, cpu_ms / FRAMES)
