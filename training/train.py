"""The training loop of one architecture, from its first step or its saved state to its best checkpoint."""

from __future__ import annotations

import math
from dataclasses import replace
from time import perf_counter

import torch

from core.errors import CheckError
from training.batches import Batches
from training.capture import upload
from training.run import outputs
from training.run.interrupt import Interrupt
from training.run.job import TrainJob
from training.run.progress import ProgressReporter
from training.schedule import rate_at
from training.state import HistoryRow, StepTotals, TrainState
from training.step import Objective, StepFunction, build_step_function

LOWER_RATE = 0.5
"""The factor of the learning rate when training goes back, once, after a loss that is not a number."""
SAVE_EVERY_S = 600.0
"""The longest time between two saved states within an epoch."""


def train(job: TrainJob, interrupt: Interrupt) -> None:
    """Train a job to its end, from its saved state if there is one. Each process calls this; the main one writes files.

    Raises InterruptedError, after saving, when a signal arrived, and CheckError when the loss is not a number at the
    lower rate either.
    """
    if job.is_main:
        outputs.remove_leftovers(job.folder)
    state, objective = job.start_or_resume()
    outputs.restore_history(job, state.progress)
    batches = job.batches()
    pack_files = outputs.file_versions(job.pack)
    take_step = build_step_function(state, objective, batches)
    with ProgressReporter(job, batches.steps, state.progress) as reporter:
        while not state.progress.is_finished(job.recipe):
            row = train_epoch(job, state, take_step, batches, reporter, interrupt)
            # looked at once an epoch, because reading the loss in each step would make the GPU wait
            if not math.isfinite(row["train_loss"]):
                state, objective = _roll_back(job, state)
                take_step = build_step_function(state, objective, batches)
                continue
            evaluated = outputs.evaluate_val(job, state)
            state.end_epoch(row | evaluated.figures, job.recipe)
            # the images are memory-mapped: a file that was replaced would mix two data sets in one training
            if outputs.file_versions(job.pack) != pack_files:
                raise CheckError(f"{job.pack.path} was replaced while it was trained on: put it back, then --resume")
            if job.is_main:
                # the best first: killed between the two, the epoch is trained again and the checkpoint written again
                if state.progress.is_improved:
                    outputs.save_best(job, evaluated, state.progress)
                state.save(job.state_folder)
                outputs.write_history(job.folder, state.progress)
            reporter.epoch_ended(state.progress)
    if job.is_main:
        outputs.finalize(job, state.progress)


def train_epoch(
    job: TrainJob,
    state: TrainState,
    take_step: StepFunction,
    batches: Batches,
    reporter: ProgressReporter,
    interrupt: Interrupt,
) -> HistoryRow:
    """Train the rest of the current epoch; return its row of the history, without the figures of val."""
    progress = state.progress
    state.network.train()
    started = saved = perf_counter()
    images_done = 0
    prepared = batches.prepare_epoch(progress.epoch, progress.step)
    if batches.preparer.streams_frames:
        prepared = upload(prepared, job.compute.device)
    for step, batch in enumerate(prepared, progress.step):
        epochs_done = progress.epoch + step / batches.steps
        state.begin_step(rate_at(job.recipe, epochs_done, progress.plateau) * progress.rate_scale)
        torch.manual_seed(batches.network_seed(progress.epoch, step))
        take_step(batch)
        state.progress = replace(progress, step=step + 1)
        images_done += batch.image_count
        reporter.step_ended(images_done / (perf_counter() - started))
        late = perf_counter() - saved > SAVE_EVERY_S
        stopped = interrupt.signal_number is not None
        # processes notice the time or a signal at different steps, but must save and stop after the same one
        late, stopped = job.compute.dist.any_process(late, stopped)
        if (late or stopped) and state.totals[0].isfinite():  # a state to go back to must be a good one
            if job.is_main:
                state.save(job.state_folder)
            saved = perf_counter()
        if stopped:
            raise InterruptedError(
                f"{job.arch} is saved after {step + 1} of {batches.steps} steps of epoch {progress.epoch + 1}"
            )
    totals = StepTotals(*state.totals.tolist())  # waits for the GPU, so it comes before the clock
    seconds = perf_counter() - started
    return {
        "epoch": progress.epoch + 1,
        "learning_rate": rate_at(job.recipe, progress.epoch, progress.plateau) * progress.rate_scale,
        "train_loss": totals.loss / totals.images,
        "train_accuracy": totals.correct / totals.images,
        "clipped": totals.clipped / batches.steps,
        "seconds": round(seconds, 2),
        "images_per_s": round((totals.images - progress.totals.images) / seconds, 1),
    }


def _roll_back(job: TrainJob, state: TrainState) -> tuple[TrainState, Objective]:
    """Return the last saved state with a lower rate. Raises CheckError when the rate was lowered before."""
    if state.progress.rate_scale < 1:
        raise CheckError(
            f"the loss of {job.arch} is not a number in epoch {state.progress.epoch + 1}, at half the rate too: "
            f"give a --learning-rate below {job.recipe.learning_rate * LOWER_RATE:g}"
        )
    state, objective = job.start_or_resume()
    state.progress = replace(state.progress, rate_scale=LOWER_RATE)
    return state, objective
