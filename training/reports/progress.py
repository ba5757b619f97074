"""Progress for people (a bar, or a line an epoch), for fleets (JSON lines) and for TensorBoard."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter

from core.log import shows_progress

log = logging.getLogger(__name__)


class Watch:
    """Shows one architecture's training on stderr, and writes TensorBoard events; with `as_json`, lines on stdout."""

    def __init__(
        self, arch: str, epochs: int, steps: int, epoch: int, step: int, events: Path | None, as_json: bool
    ) -> None:
        """Without a folder for `events` it is silent: in all processes but the first."""
        self.arch, self.epochs, self.as_json, self.silent = arch, epochs, as_json, events is None
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[said]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=as_json or self.silent or not shows_progress(),
            transient=True,
        )
        self.task = self.bar.add_task(arch, total=epochs * steps, completed=epoch * steps + step, said="")
        self.events = SummaryWriter(str(events), purge_step=epoch + 1) if events else None
        self.said = ""

    def __enter__(self) -> Watch:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.bar.stop()
        if self.events:
            self.events.close()

    def stepped(self, images_per_s: float) -> None:
        """Show that a step is done."""
        self.bar.update(self.task, advance=1, said=f"{images_per_s:.0f} images/s{self.said}")

    def epoch_ended(self, row: dict[str, float], best: bool) -> None:
        """Show the figures of an epoch."""
        if self.events is None:
            return
        self.said = f", val {row['val_accuracy']:.1%}"
        for name, value in row.items():
            if name not in {"epoch", "seconds"}:
                self.events.add_scalar(name, value, int(row["epoch"]))
        if self.as_json:
            self.say("epoch", best=best, **row)
        elif not shows_progress():
            log.info(
                f"{self.arch} epoch {row['epoch']}/{self.epochs}: loss {row['train_loss']:.3f}, val loss "
                f"{row['val_loss']:.3f}, val {row['val_accuracy']:.1%}{' *' if best else ''}, "
                f"{row['images_per_s']:.0f} images/s"
            )

    def say(self, event: str, **facts: Any) -> None:
        """Write one JSON line to stdout."""
        print(json.dumps({"event": event, "arch": self.arch, **facts}), flush=True)
