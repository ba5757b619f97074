"""The optimizer of a recipe, and the averaged copy of the network."""

from __future__ import annotations

import copy
from itertools import chain

import torch
from torch import Tensor, nn

from training.recipe import Recipe


def build_optimizer(network: nn.Module, recipe: Recipe, captured: bool = False) -> torch.optim.Optimizer:
    """Build the recipe's optimizer; without `decay_norm_bias`, parameters of one dimension are not decayed.

    captured: its steps go into a CUDA graph, so the rate is a tensor, which the graph reads in each step.
    """
    parameters = [p for p in network.parameters() if p.requires_grad]
    # biases and the scales of normalization have one dimension, the weights of layers more
    decayed, spared = parameters, list[nn.Parameter]()
    if not recipe.decay_norm_bias:
        decayed = [parameter for parameter in parameters if parameter.ndim > 1]
        spared = [parameter for parameter in parameters if parameter.ndim <= 1]
    groups = []
    if decayed:
        groups.append({"params": decayed, "weight_decay": recipe.weight_decay})
    if spared:
        groups.append({"params": spared, "weight_decay": 0.0})
    rate = torch.zeros((), device=parameters[0].device) if captured else recipe.learning_rate
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, rate, momentum=0.9, nesterov=True, fused=True)
    kind = torch.optim.AdamW if recipe.optimizer == "adamw" else torch.optim.Adam
    optimizer = kind(groups, rate, fused=True, capturable=captured)
    optimizer._warned_capturable_if_run_uncaptured = True  # no warning: the warm-up runs without a capture on purpose
    return optimizer


class AveragedNetwork:
    """A copy of the network with exponentially averaged weights and statistics.

    The weight of new values is large at first, so that the average forgets the random start.

    Source: the moving average of TensorFlow's tf.train.ExponentialMovingAverage with num_updates.
    """

    def __init__(self, network: nn.Module, decay: float, captured: bool = False) -> None:
        """captured: the updates go into a CUDA graph, so the weight is a tensor, which the graph reads in each step."""
        self.network = copy.deepcopy(network)
        self.decay = decay
        self.updates = 0
        """The number of steps averaged so far."""
        self.weight: float | Tensor = torch.ones((), device=next(network.parameters()).device) if captured else 1.0
        """The weight of the new values in the next update; it is 1 at the first."""
        self._averages = _tensors(self.network, True)
        self._values = _tensors(network, True)
        self._counters = _tensors(self.network, False)
        self._counts = _tensors(network, False)

    def begin_step(self) -> None:
        """Set the weight of the next update; the host counts the steps, so that nothing is read from the device."""
        n, self.updates = self.updates, self.updates + 1
        weight = 1 - min(self.decay, (1 + n) / (10 + n)) if n else 1.0
        if isinstance(self.weight, Tensor):
            self.weight.fill_(weight)
        else:
            self.weight = weight

    def update(self) -> None:
        """Move the averaged values towards the network's, and copy its integers: counters of seen batches."""
        # foreach: one kernel for many tensors, where a loop would start one for each
        if isinstance(self.weight, Tensor):  # lerp takes a number, or a weight for each element
            moves = torch._foreach_sub(self._values, self._averages)
            torch._foreach_mul_(moves, self.weight)
            torch._foreach_add_(self._averages, moves)
        else:
            torch._foreach_lerp_(self._averages, self._values, self.weight)
        if self._counters:
            torch._foreach_copy_(self._counters, self._counts)

    def tensors(self) -> dict[str, Tensor]:
        """Return the averaged values and the number of updates, by name."""
        values = {f"module.{name}": value for name, value in self.network.state_dict().items()}
        return {"n_averaged": torch.tensor(self.updates), **values}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Restore what `tensors` returned."""
        weights = {name.removeprefix("module."): value for name, value in tensors.items()}
        self.updates = int(weights.pop("n_averaged"))
        self.network.load_state_dict(weights)


def _tensors(network: nn.Module, floating: bool) -> list[Tensor]:
    """Return the parameters and buffers that are floating-point numbers, or those that are not."""
    values = chain(network.parameters(), network.buffers())
    return [value.detach() for value in values if value.is_floating_point() == floating]
