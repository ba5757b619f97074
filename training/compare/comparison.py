"""A comparison of recipes: each variant is trained with each seed, and differences are paired by seed."""

from __future__ import annotations

import csv
import logging
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from core.data.pack import open_pack
from core.data.run_dir import folder_name, open_run
from core.errors import CheckError, InputError
from core.files import read_json
from training.compare.variants import Variant

log = logging.getLogger(__name__)

POLL_S = 0.5


@dataclass(frozen=True)
class Trial:
    """One run of the comparison: all architectures of a variant with a seed."""

    variant: Variant
    seed: int
    run: Path
    command: tuple[str, ...]
    mode_from: Path | None = None
    """The run whose mode this one uses; None: it chooses its own."""

    @property
    def is_ready(self) -> bool:
        """Tell whether the trial can start: the run that gives the mode has chosen it."""
        return self.mode_from is None or (self.mode_from / "run.json").is_file()

    def is_finished(self, archs: Sequence[str]) -> bool:
        """Tell whether each architecture has its metrics.json, which is written last."""
        return all((self.run / folder_name(arch) / "metrics.json").is_file() for arch in archs)


@dataclass(frozen=True)
class RecipeComparison:
    """Variants of a recipe on one pack, each trained with every seed."""

    variants: tuple[Variant, ...]
    archs: tuple[str, ...]
    pack: Path
    out: Path
    seeds: int = 5
    epochs: int | None = None
    """The epochs of every variant that does not set its own."""
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise InputError(f"--seeds is {self.seeds}: give 1 or more")

    def trials(self) -> list[Trial]:
        """Return the trials, seed by seed, so that a comparison cut short holds whole seeds.

        All take their modes from one run: the first that has one for every network, or the first.
        """
        pairs = [(seed, variant) for seed in range(self.seeds) for variant in self.variants]
        runs = [self.out / variant.folder / f"seed{seed}" for seed, variant in pairs]
        mode_from = next((run for run in runs if self._has_modes(run)), runs[0])
        trials = []
        for (seed, variant), run in zip(pairs, runs, strict=True):
            trials.append(self._trial(variant, seed, run, mode_from if run != mode_from else None))
        return trials

    def _trial(self, variant: Variant, seed: int, run: Path, mode_from: Path | None) -> Trial:
        pack = str(open_pack(self.pack).path.resolve())
        threads = ("--threads", str(self.threads)) if self.threads else ()
        modes = ("--mode-from", str(mode_from)) if mode_from else ()
        command = (sys.executable, "-m", "training", "train", pack, "--out", str(run), "--resume", "--json",
                   "--seed", str(seed), "--models", *self.archs,
                   *variant.flags(self.epochs), *threads, *modes)  # fmt: skip
        return Trial(variant, seed, run, command, mode_from)

    def _has_modes(self, run: Path) -> bool:
        return (run / "run.json").is_file() and set(self.archs) <= set(open_run(run).metadata.get("modes", {}))


def run_trials(trials: Sequence[Trial], archs: Sequence[str], jobs: int) -> None:
    """Train the trials that are not finished, `jobs` processes at a time; interrupted ones are resumed.

    A trial that takes its mode from another run waits for that run.json, so that all recipes compute alike. SIGTERM
    ends the trials too. Raises CheckError naming the log of a trial that failed.
    """
    # noted, and raised where every trial that was started is known: the default would leave them running
    stops: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: stops.append(number))
    waiting = [trial for trial in trials if not trial.is_finished(archs)]
    running: list[tuple[Trial, subprocess.Popen[bytes]]] = []
    try:
        while waiting or running:
            ready = [trial for trial in waiting if trial.is_ready]
            for trial in ready[: jobs - len(running)]:
                waiting.remove(trial)
                running.append((trial, _start(trial)))
            time.sleep(POLL_S)
            if stops:
                sys.exit(128 + stops[0])
            for trial, process in [item for item in running if item[1].poll() is not None]:
                running.remove((trial, process))
                if process.returncode:
                    raise CheckError(f"the run {trial.run} failed: {_log(trial)} says why; start the comparison again")
                log.info(f"{trial.variant.name}, seed {trial.seed}: done, {len(waiting)} to go")
    finally:
        for _, process in running:
            process.terminate()  # a trial saves its state on SIGTERM
        for _, process in running:
            process.wait()
        signal.signal(signal.SIGTERM, before)


def _log(trial: Trial) -> Path:
    return trial.run.with_suffix(".log")


def _start(trial: Trial) -> subprocess.Popen[bytes]:
    trial.run.parent.mkdir(parents=True, exist_ok=True)
    with _log(trial).open("ab") as log:  # appended: a resumed trial keeps the log of its first start
        return subprocess.Popen(trial.command, stdout=log, stderr=log)


def collect_rows(trials: Sequence[Trial], archs: Sequence[str]) -> list[dict[str, Any]]:
    """Return the figures of each finished trial, a row for each architecture."""
    rows = []
    for trial in trials:
        for arch in archs:
            folder = trial.run / folder_name(arch)
            if (folder / "metrics.json").is_file():
                rows.append(_figures(folder) | {"variant": trial.variant.name, "seed": trial.seed, "arch": arch})
    return rows


def _figures(folder: Path) -> dict[str, Any]:
    metrics = read_json(folder / "metrics.json")
    with (folder / "history.csv").open(encoding="utf-8") as stream:
        history = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(stream)]
    # for the largest rise of the loss from one epoch to the next, as after a warm restart
    losses = np.array([row["train_loss"] for row in history])
    return {
        "test_accuracy": metrics["test"]["accuracy"],
        "test_balanced_accuracy": metrics["test"]["balanced_accuracy"],
        "val_accuracy": metrics["val"]["accuracy"],
        "ece_before_temperature": metrics["test"]["ece_before_temperature"],
        "ece": metrics["test"]["ece"],
        "seconds": metrics["seconds"],
        "images_per_s": metrics["images_per_s"],
        "best_epoch": metrics["epoch"],
        "epochs": metrics["epochs"],
        "clipped": float(np.mean([row["clipped"] for row in history])),
        "loss_spike": float(max(0.0, (losses[1:] / losses[:-1] - 1).max())) if len(losses) > 1 else 0.0,
        "val_curve": [row["val_accuracy"] for row in history],
        "rate_curve": [row["learning_rate"] for row in history],
    }


@dataclass(frozen=True)
class StudentInterval:
    """A mean with its 95% interval by Student's t; a single value has no interval."""

    mean: float
    low: float | None
    high: float | None
    n: int


def student_interval(values: Sequence[float]) -> StudentInterval:
    """Return the mean of `values` and its 95% interval. Source: Student's t with n - 1 degrees of freedom."""
    sample = np.asarray(values, np.float64)
    mean, n = float(sample.mean()), len(sample)
    if n < 2:
        return StudentInterval(mean, None, None, n)
    half = float(stats.t.ppf(0.975, n - 1) * sample.std(ddof=1) / np.sqrt(n))
    return StudentInterval(mean, mean - half, mean + half, n)


def summarize(rows: Sequence[dict[str, Any]], reference: str) -> list[dict[str, Any]]:
    """Return a row for each architecture and variant: means over seeds, and the difference paired with `reference`.

    Speeds are medians, because a seed may have shared its machine with other work.
    """
    groups: dict[tuple[str, str], dict[int, dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["arch"], row["variant"]), {})[row["seed"]] = row
    summaries = []
    for (arch, variant), by_seed in groups.items():
        summaries.append(_summary(arch, variant, by_seed, groups.get((arch, reference), {})))
    return summaries


def _summary(
    arch: str, variant: str, by_seed: dict[int, dict[str, Any]], reference: dict[int, dict[str, Any]]
) -> dict[str, Any]:
    rows = list(by_seed.values())
    accuracy = np.array([row["test_accuracy"] for row in rows])
    # paired by seed: what a seed does to both variants drops out of the difference
    shared = sorted(by_seed.keys() & reference.keys())
    paired = [by_seed[seed]["test_accuracy"] - reference[seed]["test_accuracy"] for seed in shared]
    names = ("test_balanced_accuracy", "val_accuracy", "ece_before_temperature", "ece", "best_epoch", "epochs",
             "clipped", "loss_spike")  # fmt: skip
    return {
        "arch": arch,
        "variant": variant,
        "seeds": sorted(by_seed),
        "test_accuracy": float(accuracy.mean()),
        "test_accuracy_sd": float(accuracy.std(ddof=1)) if len(rows) > 1 else None,
        "difference": asdict(student_interval(paired)) if paired else None,
        **{name: float(np.mean([row[name] for row in rows])) for name in names},
        **{name: float(np.median([row[name] for row in rows])) for name in ("seconds", "images_per_s")},
    }
