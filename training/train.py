"""The training loop: one architecture, from its first step or its last saved state to its best checkpoint."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from scipy.special import softmax

import models
from core.data.pack import Pack
from core.errors import CheckError
from core.files import write_json, write_text
from models.checkpoint import Checkpoint, Facts, load
from models.deployed import Deployed
from training import metrics
from training.batches import NETWORK, Batches, generator
from training.compute.mode import Mode
from training.compute.world import ALONE, World
from training.interrupt import Interrupt
from training.prepare import open_feed
from training.recipe import Recipe
from training.reports.machine import peak_memory_mb
from training.reports.progress import Watch
from training.schedule import rate
from training.state import Row, Track, load_state, save_state, saving
from training.step import Learner
from training.teacher import Teacher

LOWER_RATE = 0.5
"""After a loss that is not a number, training goes on from the last good state at this share of the rate, once."""
SAVE_EVERY_S = 600.0
"""A long epoch is saved in between."""


@dataclass(frozen=True)
class Job:
    """Everything that decides the training of one architecture, and where its results go."""

    pack: Pack
    arch: str
    recipe: Recipe
    mode: Mode
    folder: Path
    seed: int = 0
    device: str = "cpu"
    pretrained: bool | str = False
    commit: str = "unknown"
    abstain_risk: float = 0.05
    as_json: bool = False
    augment_on: str = "host"
    world: World = ALONE
    teacher: Path | None = None

    def learner(self) -> Learner:
        """Return a learner at its start."""
        teacher = Teacher(self.teacher, self.pack.classes, self.mode, self.device) if self.teacher else None
        return Learner(
            self.arch, len(self.pack.classes), self.recipe, self.mode, seed=self.seed, device=self.device,
            pretrained=self.pretrained, size_px=self.pack.geometry.size_px, world=self.world, teacher=teacher,
        )  # fmt: skip

    def batches(self) -> Batches:
        """Return the batches of this process."""
        feed = open_feed(self.pack, models.normalisation(self.arch)[0], self.device, self.augment_on)
        return Batches(self.pack, self.recipe, self.seed, feed, self.world)

    @property
    def finished(self) -> bool:
        """Tell whether metrics.json, which is written last, is there."""
        return (self.folder / "metrics.json").is_file()


def train(job: Job, interrupt: Interrupt) -> dict[str, Any]:
    """Train to the end and return what metrics.json holds; an earlier state of the same job is gone on from.

    Each process of a world calls this; the first writes the files, and the others return nothing.
    Raises InterruptedError after saving when `interrupt` asks for it, CheckError when the loss stays not a number.
    """
    if job.world.leads:  # what a kill inside a write left behind
        for leftover in job.folder.rglob(".*.tmp"):
            leftover.unlink()
    learner, track = _last_state(job)
    batches, stamp = job.batches(), _stamp(job.pack)
    events = job.folder / "tensorboard" if job.world.leads else None
    with Watch(job.arch, job.recipe.epochs, batches.steps, track.epoch, track.step, events, job.as_json) as watch:
        while not track.finished(job.recipe):
            totals, row = _train_epoch(job, learner, track, batches, watch, interrupt)
            if not math.isfinite(totals[0]):
                learner, track = _roll_back(job, track)
                continue
            deployed = _judged(job, learner)
            logits, labels = metrics.evaluate(deployed, job.pack, "val", job.world)
            row["val_loss"], row["val_accuracy"] = metrics.loss_and_accuracy(logits, labels)
            track = track.after_epoch(row, job.recipe)
            if _stamp(job.pack) != stamp:
                raise CheckError(f"{job.pack.path} was replaced while it was trained on: put it back, then --resume")
            if job.world.leads:
                with saving(job.folder):
                    if track.best_epoch == track.epoch:
                        _checkpoint(job, deployed, track, logits, labels).save(job.folder / "best.safetensors")
                    save_state(job.folder / "last", track, learner.tensors())
                    _write_history(job.folder / "history.csv", track.history)
            watch.epoch_ended(row, best=track.best_epoch == track.epoch)
    return _conclude(job, track) if job.world.leads else {}


def _train_epoch(
    job: Job, learner: Learner, track: Track, batches: Batches, watch: Watch, interrupt: Interrupt
) -> tuple[list[float], Row]:
    """Train what is left of an epoch; return the sums over all of it and its row of history, val left open."""
    learner.network.train()
    started = saved = perf_counter()
    totals, done = torch.tensor(track.totals, dtype=torch.float64, device=job.device), 0
    for step, (frames, labels) in enumerate(batches.epoch(track.epoch, track.step), track.step):
        at = rate(job.recipe, track.epoch + step / batches.steps, track.plateau) * track.rate_scale
        # the last of as many numbers as processes up to this: each has its own, the first the one it has alone
        seed = generator(job.seed, NETWORK, track.epoch, step).integers(2**63, size=job.world.rank + 1)[-1]
        totals += learner.step(frames, labels, at, int(seed), batches.images_at(step))
        done += batches.images_at(step)
        watch.stepped(done / (perf_counter() - started))
        late, asked = job.world.any(perf_counter() - saved > SAVE_EVERY_S, interrupt.asked is not None)
        if (late or asked) and math.isfinite(totals[0]):
            if job.world.leads:
                with saving(job.folder):
                    part = replace(track, step=step + 1, totals=tuple(totals.tolist()))
                    save_state(job.folder / "last", part, learner.tensors())
            saved = perf_counter()
        if asked:
            raise InterruptedError(
                f"{job.arch} is saved after {step + 1} of {batches.steps} steps of epoch {track.epoch + 1}"
            )
    loss, right, clipped, images = totals.tolist()
    seconds = perf_counter() - started
    return totals.tolist(), {
        "epoch": track.epoch + 1,
        "learning_rate": rate(job.recipe, track.epoch, track.plateau) * track.rate_scale,
        "train_loss": loss / images,
        "train_accuracy": right / images,
        "clipped": clipped / batches.steps,
        "seconds": round(seconds, 2),
        "images_per_s": round((images - track.totals[3]) / seconds, 1),
    }


def _roll_back(job: Job, track: Track) -> tuple[Learner, Track]:
    """Return the last good state with a lower rate; the second time is the last."""
    if track.rate_scale < 1:
        raise CheckError(
            f"the loss of {job.arch} is not a number in epoch {track.epoch + 1}, at half the rate too: "
            f"give a --learning_rate below {job.recipe.learning_rate * LOWER_RATE:g}"
        )
    learner, track = _last_state(job)
    return learner, replace(track, rate_scale=LOWER_RATE)


def _last_state(job: Job) -> tuple[Learner, Track]:
    """Return the learner and the track as they were saved last, or at their start."""
    learner, track = job.learner(), Track()
    if saved := load_state(job.folder / "last"):
        track, tensors = saved
        learner.restore(tensors)
    return learner, track


def _judged(job: Job, learner: Learner) -> Deployed:
    return Deployed(learner.kept(), *models.normalisation(job.arch)).to(job.device)


def _checkpoint(
    job: Job, deployed: Deployed, track: Track, logits: metrics.Floats, labels: metrics.Labels
) -> Checkpoint:
    """Return the network as it is, with the temperature and the abstention that val asks for."""
    temperature = metrics.fit_temperature(logits, labels)
    abstention = metrics.choose_abstention(softmax(logits / temperature, 1), labels, job.abstain_risk)
    mean, std = models.normalisation(job.arch)
    pack = job.pack
    facts = Facts(
        arch=job.arch,
        classes=pack.classes,
        background=pack.background,
        geometry=pack.geometry,
        mean=mean,
        std=std,
        recipe=job.recipe.as_json(),
        metrics={
            "epoch": track.epoch,
            "val": {"accuracy": track.best_accuracy, "loss": track.best_loss},
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
    return Checkpoint(facts, dict(deployed.network.state_dict()))


def _conclude(job: Job, track: Track) -> dict[str, Any]:
    """Judge the best checkpoint, read back from its file, on val and test; draw, and write metrics.json last."""
    from training.reports import plots  # matplotlib is seconds to import

    best = load(job.folder / "best.safetensors")
    deployed = best.network().to(job.device)
    figures = {
        split: metrics.report(*metrics.evaluate(deployed, job.pack, split), job.pack.classes, best.facts.temperature)
        for split in ("val", "test")
    }
    name = f"{job.arch}, {job.recipe.name}" + (", synthetic data" if job.pack.synthetic else "")
    plots.draw_history(job.folder / "history.png", name, track.history, track.best_epoch)
    plots.draw_confusion(
        job.folder / "confusion_matrix.png", f"{name}, test", figures["test"]["confusion_matrix"], job.pack.classes
    )
    seconds = sum(row["seconds"] for row in track.history)
    facts: dict[str, Any] = {
        "arch": job.arch,
        "recipe": job.recipe.name,
        "seed": job.seed,
        "mode": job.mode.as_json(),
        "synthetic": job.pack.synthetic,
        "parameters": sum(p.numel() for p in deployed.parameters()),
        "epoch": track.best_epoch,
        "epochs": track.epoch,
        "rate_scale": track.rate_scale,
        "temperature": best.facts.temperature,
        "abstention": best.facts.metrics["abstention"],
        "seconds": round(seconds, 1),
        "images_per_s": round(float(np.median([row["images_per_s"] for row in track.history])), 1),
        "peak_memory_mb": round(peak_memory_mb(job.device)),
        **figures,
    }
    write_json(job.folder / "metrics.json", facts)
    return facts


def _write_history(file: Path, history: tuple[Row, ...]) -> None:
    names = list(history[0])
    lines = [",".join(names), *(",".join(repr(row[name]) for name in names) for row in history)]
    write_text(file, "\n".join(lines) + "\n")


def _stamp(pack: Pack) -> list[tuple[int, int, int]]:
    """Return what changes when a file of the pack is replaced."""
    states = [file.stat() for file in sorted(pack.path.iterdir()) if file.suffix in {".npy", ".csv"}]
    return [(state.st_ino, state.st_size, state.st_mtime_ns) for state in states]
