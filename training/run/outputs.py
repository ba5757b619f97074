"""The files that a training writes into its folder: best checkpoint, history.csv, plots and metrics.json."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.special import softmax

import models
from core.bundle.abstain import choose_threshold
from core.data.pack import Pack
from core.errors import InputError
from core.files import write_json, write_text
from core.stats import risk_coverage, wilson
from models.checkpoint import Checkpoint, CheckpointMetadata, load_checkpoint
from models.deployed import DeployedNetwork
from training import metrics
from training.reports.machine import peak_memory_mb
from training.run.job import TrainJob
from training.state import HistoryRow, TrainProgress, TrainState, full_disk_as_input_error

log = logging.getLogger(__name__)
HINT = "train for more epochs, on more data, or from pretrained weights (docs/recipes.md)"


class ValResult(NamedTuple):
    """A network, its logits on val, and the labels."""

    deployed: DeployedNetwork
    logits_nc: metrics.Logits
    labels_n: metrics.Labels

    @property
    def figures(self) -> HistoryRow:
        """Loss and accuracy on val, as columns of the history."""
        loss, accuracy = metrics.loss_and_accuracy(self.logits_nc, self.labels_n)
        return {"val_loss": loss, "val_accuracy": accuracy}


def evaluate_val(job: TrainJob, state: TrainState) -> ValResult:
    """Return the network that is kept, with its logits and labels on val; all processes share the work."""
    deployed = DeployedNetwork(state.eval_network, *models.normalization(job.arch)).to(job.compute.device)
    return ValResult(deployed, *metrics.predict_logits(deployed, job.pack, "val", job.compute.dist))


def save_best(job: TrainJob, evaluated: ValResult, progress: TrainProgress) -> None:
    """Write best.safetensors, with a temperature and an abstain threshold fitted on val."""
    _, logits, labels = evaluated
    temperature = metrics.fit_temperature(logits, labels)
    # the threshold is chosen on the probabilities that the exported graph will give, after the temperature
    probs = softmax(logits / temperature, 1)
    abstention = choose_threshold(*risk_coverage(probs.max(1), probs.argmax(1) == labels), job.abstain_risk)
    mean, std = models.normalization(job.arch)
    pack = job.pack
    metadata = CheckpointMetadata(
        arch=job.arch,
        classes=pack.classes,
        background=pack.background,
        geometry=pack.geometry,
        mean=mean,
        std=std,
        recipe=job.recipe.as_json(),
        metrics={
            "epoch": progress.epoch,
            "val": {"accuracy": progress.best_accuracy, "loss": progress.best_loss},
            "abstention": abstention,
        },
        temperature=temperature,
        abstain_threshold=abstention["threshold"],
        pack_path=str(pack.path.resolve()),
        pack_fingerprint=pack.fingerprint,
        synthetic=pack.synthetic,
        seed=job.seed,
        commit=job.commit,
    )
    with full_disk_as_input_error(job.folder):
        Checkpoint(metadata, dict(evaluated.deployed.network.state_dict())).save(job.folder / "best.safetensors")


def write_history(folder: Path, progress: TrainProgress) -> None:
    """Write history.csv, a line for each epoch."""
    with full_disk_as_input_error(folder):
        write_text(folder / "history.csv", "".join(_history_lines(progress)))


def restore_history(job: TrainJob, progress: TrainProgress) -> None:
    """Write history.csv from the state to resume, which may be an epoch ahead. Raises InputError when it is damaged."""
    file, expected = job.folder / "history.csv", _history_lines(progress)
    if not expected:
        return
    if file.exists():
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True) or [""]
        for number, (line, right) in enumerate(zip(lines, expected, strict=False), 1):
            if line != right:
                raise InputError(
                    f"{file} is damaged (line {number} is not that of the state in {job.state_folder}): "
                    "remove it, and go on with --resume, which writes it again"
                )
    if job.is_main:
        write_history(job.folder, progress)


def _history_lines(progress: TrainProgress) -> list[str]:
    """Return the lines of history.csv; none before the end of the first epoch."""
    if not progress.history:
        return []
    names = list(progress.history[0])
    # repr keeps every bit of a float, so that a resumed run writes the same file
    rows = (",".join(repr(row[name]) for name in names) for row in progress.history)
    return [f"{line}\n" for line in (",".join(names), *rows)]


def finalize(job: TrainJob, progress: TrainProgress) -> None:
    """Evaluate the best checkpoint, read from its file, on val and test; write the plots, and metrics.json last."""
    from training.reports import plots  # matplotlib takes seconds to import

    # read back from its file, so that the figures are those of the weights that export will load
    best = load_checkpoint(job.folder / "best.safetensors")
    deployed = best.build_network().to(job.compute.device)
    figures = {
        split: metrics.split_metrics(
            *metrics.predict_logits(deployed, job.pack, split), job.pack.classes, best.metadata.temperature
        )
        for split in ("val", "test")
    }
    name = f"{job.arch}, {job.recipe.name}" + (", synthetic data" if job.pack.synthetic else "")
    plots.draw_history(job.folder / "history.png", name, progress.history, progress.best_epoch)
    plots.draw_confusion(
        job.folder / "confusion_matrix.png", f"{name}, test", figures["test"]["confusion_matrix"], job.pack.classes
    )
    body: dict[str, Any] = {
        "arch": job.arch,
        "recipe": job.recipe.name,
        "seed": job.seed,
        "mode": job.compute.mode.as_json(),
        "synthetic": job.pack.synthetic,
        "parameters": sum(p.numel() for p in deployed.parameters()),
        "epoch": progress.best_epoch,
        "epochs": progress.epoch,
        "rate_scale": progress.rate_scale,
        "temperature": best.metadata.temperature,
        "abstention": best.metadata.metrics["abstention"],
        "seconds": round(sum(row["seconds"] for row in progress.history), 1),
        "images_per_s": round(float(np.median([row["images_per_s"] for row in progress.history])), 1),
        "peak_memory_mb": round(peak_memory_mb(job.compute.device)),
        **figures,
    }
    write_json(job.folder / "metrics.json", body)  # last: it marks the job as finished
    if not job.as_json:
        log.info(f"{job.arch}: val {figures['val']['accuracy']:.1%}, test {figures['test']['accuracy']:.1%}")
    _warn_of_chance(job, figures["test"])
    _report_answers(job, best.metadata.metrics["abstention"])


def _warn_of_chance(job: TrainJob, test: dict[str, Any]) -> None:
    """Warn where a network is not shown to be better than one that always answers the most frequent class."""
    rows, accuracy = test["rows"], test["accuracy"]
    largest, share = max(
        ((name, row["rows"] / rows) for name, row in test["per_class"].items()), key=lambda one: one[1]
    )
    low, high = wilson(round(accuracy * rows), rows)
    if low <= share:
        log.warning(
            f"{job.arch}: {accuracy:.1%} of test [{low:.1%}, {high:.1%}] is not shown to be above the {share:.1%} of "
            f"always answering {largest}: {HINT}"
        )


def _report_answers(job: TrainJob, abstention: dict[str, float]) -> None:
    """Say how silent the network is, which its accuracy does not show."""
    answered, wrong, wanted = abstention["coverage"], abstention["risk"], abstention["risk_wanted"]
    answers = f"{job.arch}: its abstain threshold answers {answered:.0%} of val, {wrong:.1%} of these wrongly"
    if wrong > wanted:
        log.warning(f"{answers}, more than the {wanted:.1%} asked for: {HINT}")
    elif not job.as_json:
        log.info(answers)


def remove_leftovers(folder: Path) -> None:
    """Remove the files that a killed training was writing; an export may be writing its folder beside them."""
    for file in (*folder.glob(".*.tmp"), *folder.glob("last/.*.tmp")):
        if file.is_file():
            file.unlink()


def file_versions(pack: Pack) -> list[tuple[int, int, int]]:
    """Return inode, size and time of each file of the pack; one of them differs when a file was replaced."""
    states = [file.stat() for file in sorted(pack.path.iterdir()) if file.suffix in {".npy", ".csv"}]
    return [(state.st_ino, state.st_size, state.st_mtime_ns) for state in states]
