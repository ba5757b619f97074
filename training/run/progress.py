"""The progress of a training: a bar or a line per epoch for people, JSON lines for programs, and TensorBoard."""

from __future__ import annotations

import json
import logging
import threading
from contextlib import suppress
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter

from core.log import shows_progress
from training.run.job import TrainJob
from training.state import TrainProgress, full_disk_as_input_error

log = logging.getLogger(__name__)


def _report_in_thread(args: threading.ExceptHookArgs) -> None:
    """Leave out the traceback of an OSError in TensorBoard's thread, whose writer raises the error in ours again."""
    if not (isinstance(args.exc_value, OSError) and type(args.thread).__name__ == "_AsyncWriterThread"):
        threading.__excepthook__(args)


class ProgressReporter:
    """Shows the training of one architecture on stderr and in TensorBoard; with `as_json`, as JSON lines on stdout."""

    def __init__(self, job: TrainJob, steps: int, progress: TrainProgress) -> None:
        """Start at `progress` of a job with `steps` steps per epoch. Only the main process reports."""
        self.arch = job.arch
        self.epochs = job.recipe.epochs
        self.as_json = job.as_json
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[text]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=job.as_json or not job.is_main or not shows_progress(),
            transient=True,
        )
        done = progress.epoch * steps + progress.step
        self.task = self.bar.add_task(job.arch, total=job.recipe.epochs * steps, completed=done, text="")
        events = str(job.folder / "tensorboard")
        threading.excepthook = _report_in_thread
        self.folder = job.folder
        with full_disk_as_input_error(job.folder):
            # the epochs after the saved state are trained again, so their events are purged
            self.events = SummaryWriter(events, purge_step=progress.epoch + 1) if job.is_main else None
        self.val_text = ""

    def __enter__(self) -> ProgressReporter:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.bar.stop()
        if self.events:
            # the error that ended the training says more than that of the last events
            with suppress(OSError) if error else full_disk_as_input_error(self.folder):
                self.events.close()

    def step_ended(self, images_per_s: float) -> None:
        """Advance the bar by a step."""
        self.bar.update(self.task, advance=1, text=f"{images_per_s:.0f} images/s{self.val_text}")

    def epoch_ended(self, progress: TrainProgress) -> None:
        """Report the figures of the last epoch."""
        if self.events is None:
            return
        row = progress.history[-1]
        best = progress.is_improved
        self.val_text = f", val {row['val_accuracy']:.1%}"
        with full_disk_as_input_error(self.folder):
            for name, value in row.items():
                if name not in {"epoch", "seconds"}:
                    self.events.add_scalar(name, value, int(row["epoch"]))
        if self.as_json:
            self.emit_event("epoch", best=best, **row)
        # on a terminal the bar shows the same figures
        elif not shows_progress():
            log.info(
                f"{self.arch} epoch {row['epoch']}/{self.epochs}: loss {row['train_loss']:.3f}, val loss "
                f"{row['val_loss']:.3f}, val {row['val_accuracy']:.1%}{' *' if best else ''}, "
                f"{row['images_per_s']:.0f} images/s"
            )

    def emit_event(self, event: str, **values: Any) -> None:
        """Write one JSON line to stdout."""
        print(json.dumps({"event": event, "arch": self.arch, **values}), flush=True)
