"""The state of an unfinished training: written whole or not at all, so that a kill loses an epoch and nothing else."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from core.errors import InputError
from core.files import replacing, write_json
from training.recipe import Recipe
from training.schedule import Plateau

Row = dict[str, float]
KEY = "rearguard"


@dataclass(frozen=True)
class Track:
    """How far training is, and all that it remembers beside tensors."""

    epoch: int = 0
    """Epochs finished."""
    step: int = 0
    """Steps finished of the epoch after."""
    totals: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)
    """Of those steps: summed loss, right answers, clipped steps, images."""
    rate_scale: float = 1.0
    """Below 1 after the loss was not a number once."""
    plateau: Plateau = field(default_factory=Plateau)
    best_epoch: int = -1
    best_accuracy: float = -1.0
    best_loss: float = math.inf
    stop_value: float = math.inf
    """The best value of what early stopping watches, lower is better."""
    stop_epoch: int = 0
    """When it was reached, in epochs finished."""
    history: tuple[Row, ...] = ()

    def after_epoch(self, row: Row, recipe: Recipe) -> Track:
        """Return the track after an epoch with these figures of val."""
        epoch, accuracy, loss = self.epoch + 1, row["val_accuracy"], row["val_loss"]
        track = replace(
            self, epoch=epoch, step=0, totals=(0.0,) * 4, plateau=self.plateau.after(loss, recipe),
            history=(*self.history, row),
        )  # fmt: skip
        if (accuracy, -loss) > (self.best_accuracy, -self.best_loss):
            track = replace(track, best_epoch=epoch, best_accuracy=accuracy, best_loss=loss)
        watched = loss if recipe.stop_metric == "loss" else -accuracy
        if watched < self.stop_value:
            track = replace(track, stop_value=watched, stop_epoch=epoch)
        return track

    def finished(self, recipe: Recipe) -> bool:
        """Tell whether no epoch is left, or early stopping says so."""
        patience = recipe.stop_patience
        return self.epoch >= recipe.epochs or bool(patience and self.epoch - self.stop_epoch >= patience)


@contextmanager
def saving(folder: Path) -> Iterator[None]:
    """Turn what a full disk raises into InputError: what was written before is whole, and is gone on from."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)[:100]
        raise InputError(f"{folder} cannot be written ({reason}): make room, then go on with --resume") from None


def save_state(folder: Path, track: Track, tensors: dict[str, Tensor]) -> None:
    """Write `state.safetensors`, which holds the track too, and `state.json`, the track to be read by people."""
    from safetensors.torch import save_file

    body = asdict(track)
    with replacing(folder / "state.safetensors") as temporary:
        save_file(tensors, str(temporary), metadata={KEY: json.dumps(body)})
    readable = {name: None if value in (math.inf, -math.inf) else value for name, value in body.items()}
    write_json(folder / "state.json", readable | {"plateau": track.plateau.as_json()})


def load_state(folder: Path) -> tuple[Track, dict[str, Tensor]] | None:
    """Read what `save_state` wrote; None when there is nothing. Raises InputError when it is damaged."""
    from safetensors import SafetensorError, safe_open

    file = folder / "state.safetensors"
    for leftover in folder.glob(".state.*.tmp"):
        leftover.unlink(missing_ok=True)
    if not file.is_file():
        return None
    try:
        with safe_open(str(file), framework="pt") as stream:
            body: dict[str, Any] = json.loads(stream.metadata()[KEY])
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 - not a dict
        body |= {"totals": tuple(body["totals"]), "history": tuple(body["history"])}
        return Track(**(body | {"plateau": Plateau(**body["plateau"])})), tensors
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise InputError(f"{file} is damaged ({str(error)[:100]}): remove {folder} and train again") from None
