"""The state of a training: everything that a step changes. It is saved whole and restored to the last bit."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from core.errors import InputError
from core.files import read_object, replacing, write_json
from training.optimizer import AveragedNetwork
from training.recipe import Recipe
from training.schedule import Plateau

HistoryRow = dict[str, float]
METADATA_KEY = "rearguard"


class StepTotals(NamedTuple):
    """Sums over the steps of the current epoch, and over all processes."""

    loss: float = 0.0
    correct: float = 0.0
    clipped: float = 0.0
    """The number of steps whose gradient was clipped."""
    images: float = 0.0


NO_TOTALS = StepTotals()


@dataclass(frozen=True)
class TrainProgress:
    """The progress of a training: everything in its state except tensors."""

    epoch: int = 0
    """The number of finished epochs."""
    step: int = 0
    """The number of finished steps of the current epoch."""
    totals: StepTotals = NO_TOTALS
    """The totals of those steps at the time of saving; between, `TrainState.totals` holds them."""
    rate_scale: float = 1.0
    """The factor of the learning rate, below 1 after a loss that was not a number."""
    plateau: Plateau = field(default_factory=Plateau)
    best_epoch: int = -1
    best_accuracy: float = -1.0
    best_loss: float = math.inf
    stop_value: float = math.inf
    """The best value of the metric of early stopping; lower is better."""
    stop_epoch: int = 0
    """The number of finished epochs when that value was reached."""
    history: tuple[HistoryRow, ...] = ()

    @property
    def is_improved(self) -> bool:
        """Tell whether the last epoch is the best so far."""
        return self.best_epoch == self.epoch

    def with_epoch(self, row: HistoryRow, recipe: Recipe) -> TrainProgress:
        """Return the progress after an epoch with these figures."""
        epoch = self.epoch + 1
        accuracy, loss = row["val_accuracy"], row["val_loss"]
        progress = replace(
            self,
            epoch=epoch,
            step=0,
            totals=NO_TOTALS,
            plateau=self.plateau.with_loss(loss, recipe),
            history=(*self.history, row),
        )
        # the lower loss decides between equal accuracies, which are frequent on a small val split
        if (accuracy, -loss) > (self.best_accuracy, -self.best_loss):
            progress = replace(progress, best_epoch=epoch, best_accuracy=accuracy, best_loss=loss)
        watched = loss if recipe.stop_metric == "loss" else -accuracy
        if watched < self.stop_value:
            progress = replace(progress, stop_value=watched, stop_epoch=epoch)
        return progress

    def is_finished(self, recipe: Recipe) -> bool:
        """Tell whether no epoch is left, or early stopping ends the training."""
        patience = recipe.stop_patience
        return self.epoch >= recipe.epochs or bool(patience and self.epoch - self.stop_epoch >= patience)


@dataclass
class TrainState:
    """The state of a training. Its tensors keep their addresses, as a CUDA graph needs: a step writes into them."""

    network: nn.Module
    optimizer: torch.optim.Optimizer
    average: AveragedNetwork | None
    scaler: torch.amp.GradScaler
    """The loss scaling of fp16; it has no effect in another precision."""
    totals: Tensor
    """The StepTotals of the current epoch, float64 (4,) on the device."""
    progress: TrainProgress = field(default_factory=TrainProgress)

    @property
    def eval_network(self) -> nn.Module:
        """The network that is evaluated and saved: the averaged one where there is one."""
        return self.average.network if self.average else self.network

    def begin_step(self, rate: float) -> None:
        """Set the learning rate and the averaging weight of the next step."""
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], Tensor):  # a captured step reads the rate from this tensor
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
        if self.average:
            self.average.begin_step()

    def end_epoch(self, row: HistoryRow, recipe: Recipe) -> None:
        """Add an epoch's figures to the progress, and start the totals of the next one."""
        self.progress = self.progress.with_epoch(row, recipe)
        self.totals.zero_()

    def save(self, folder: Path) -> None:
        """Write `state.safetensors`, the whole state, and `state.json`, the progress for people to read."""
        progress = replace(self.progress, totals=StepTotals(*self.totals.tolist()))
        with full_disk_as_input_error(folder):
            write_state(folder, progress, self.tensors())

    def load(self, folder: Path) -> None:
        """Restore the state in `folder`, if there is one. Raises InputError when it is damaged."""
        if saved := read_state(folder):
            self.progress, tensors = saved
            self.totals.copy_(torch.tensor(self.progress.totals, dtype=torch.float64))
            self.restore(tensors)

    def written_tensors(self) -> list[Tensor]:
        """Return the tensors that a step writes into, and not copies; the optimizer's exist after its first step."""
        networks = [self.network, self.average.network] if self.average else [self.network]
        tensors = []
        for network in networks:
            tensors += [*network.parameters(), *network.buffers()]
        for state in self.optimizer.state.values():
            tensors += state.values()
        return [*tensors, self.totals]

    def tensors(self) -> dict[str, Tensor]:
        """Return a copy on the CPU of every tensor that a step changes, by name."""
        # safetensors holds one flat table of names, so a prefix tells what a tensor belongs to
        everything = {}
        for name, value in self.network.state_dict().items():
            everything[f"network.{name}"] = value
        if self.average:
            for name, value in self.average.tensors().items():
                everything[f"average.{name}"] = value
        for i, parameter in enumerate(self._parameters()):
            for name, value in self.optimizer.state.get(parameter, {}).items():
                everything[f"optimizer.{i}.{name}"] = value
        for name, value in self.scaler.state_dict().items():
            everything[f"scaler.{name}"] = torch.tensor(value)
        return {name: value.detach().cpu().contiguous().clone() for name, value in everything.items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Restore what `tensors` returned, so that the next step is the same to the last bit."""
        self.network.load_state_dict(_below("network.", tensors))
        if self.average:
            self.average.restore(_below("average.", tensors))
        self.optimizer.state.clear()
        for i, parameter in enumerate(self._parameters()):
            state = {}
            for name, value in _below(f"optimizer.{i}.", tensors).items():
                # moments lie in memory as their parameter does: another layout would sum in another order; else, as
                # for the number of steps, only the device matters
                has_layout = value.shape == parameter.shape
                like = torch.empty_like(parameter) if has_layout else torch.empty_like(value, device=parameter.device)
                state[name] = like.detach().copy_(value)
            if state:
                self.optimizer.state[parameter] = state
        if scaler := _below("scaler.", tensors):
            self.scaler.load_state_dict({name: value.item() for name, value in scaler.items()})

    def _parameters(self) -> list[nn.Parameter]:
        """Return the parameters in the order of the optimizer, in which they are numbered."""
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]


@contextmanager
def full_disk_as_input_error(folder: Path) -> Iterator[None]:
    """Turn the errors of a full disk into InputError; files written before are whole, so that training can resume."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)[:100]
        raise InputError(f"{folder} cannot be written ({reason}): make room, then go on with --resume") from None


def write_state(folder: Path, progress: TrainProgress, tensors: dict[str, Tensor]) -> None:
    """Write both files of a state. The file of tensors holds the progress too, so that the two always match."""
    from safetensors.torch import save_file

    body = asdict(progress)
    with replacing(folder / "state.safetensors") as temporary:
        save_file(tensors, str(temporary), metadata={METADATA_KEY: json.dumps(body)})
    # JSON has no infinity, which stands for a loss before the first epoch
    readable = {name: None if value in (math.inf, -math.inf) else value for name, value in body.items()}
    write_json(folder / "state.json", readable | {"plateau": progress.plateau.as_json()})


def read_state(folder: Path) -> tuple[TrainProgress, dict[str, Tensor]] | None:
    """Read what `write_state` wrote; None when there is nothing. Raises InputError when it is damaged."""
    from safetensors import SafetensorError, safe_open

    file, readable = folder / "state.safetensors", folder / "state.json"
    if not file.is_file():
        if readable.exists():  # it is written after the other one
            raise InputError(f"{file} is missing beside {readable.name}: put it back, or remove {folder} to begin anew")
        return None
    if readable.exists():
        read_object(readable, f"remove it, and go on with --resume: {file.name} holds the whole state")
    try:
        with safe_open(str(file), framework="pt") as stream:
            body = json.loads(stream.metadata()[METADATA_KEY])
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 - not a dict
        body |= {"totals": StepTotals(*body["totals"]), "history": tuple(body["history"])}
        return TrainProgress(**(body | {"plateau": Plateau(**body["plateau"])})), tensors
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise InputError(f"{file} is damaged ({str(error)[:100]}): remove {folder} and train again") from None


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
