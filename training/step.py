"""The learner: a network, its optimiser and its averaged copy: all that a training step changes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

import models
from models.deployed import Deployed
from training.compute.mode import Mode
from training.compute.world import ALONE, World
from training.recipe import Recipe
from training.teacher import Teacher


class Learner:
    """Learns one step at a time; `tensors` and `restore` are its whole memory."""

    def __init__(
        self,
        arch: str,
        classes: int,
        recipe: Recipe,
        mode: Mode,
        *,
        seed: int = 0,
        device: str = "cpu",
        pretrained: bool | str = False,
        size_px: int | None = None,
        world: World = ALONE,
        teacher: Teacher | None = None,
    ) -> None:
        torch.manual_seed(seed)
        dropout = recipe.dropout(arch)
        network = models.build(arch, classes, size_px=size_px, dropout=dropout, pretrained=pretrained)
        if world.size > 1 and device.startswith("cuda"):
            from models.sync_norm import synchronise  # timm takes seconds to import

            network = synchronise(network)
        self.deployed = Deployed(network, *models.normalisation(arch)).to(device)
        self.network = mode.prepare(self.deployed.network)
        self.recipe, self.mode, self.device, self.world, self.teacher = recipe, mode, device, world, teacher
        self.run = mode.runnable(_parallel(self.network, device) if world.size > 1 else self.network)
        self.scaler = mode.scaler(device)
        self.optimizer = build_optimizer(self.network, recipe)
        self.average = _averaged(self.network, recipe.average_decay) if recipe.average_decay else None
        self.mix = _mixers(recipe, classes)

    def step(
        self, frames_nhwc: Tensor, labels_n: Tensor, rate: float, random_seed: int, n_in_all: int | None = None
    ) -> Tensor:
        """Take one step on uint8 frames; return float64 (4,): summed loss, right answers, clipped steps, images.

        All randomness inside (dropout, mixing) comes from `random_seed`: no generator's state needs to be kept. Of
        several processes each brings its part of a batch of `n_in_all` images; what is returned is of them all. It
        lies on the device, which need not be waited for.
        """
        recipe = self.recipe
        torch.manual_seed(random_seed)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        frames, labels = frames_nhwc.to(self.device, non_blocking=True), labels_n.to(self.device, non_blocking=True)
        inputs, targets = self.deployed.normalise(frames), labels
        if self.mix and torch.rand(()) < recipe.mix_p:
            inputs, targets = self.mix[int(torch.randint(len(self.mix), ()))](inputs, labels)
        logits = self.mode.logits(self.run, inputs)
        loss, n = cross_entropy(logits, targets, label_smoothing=recipe.label_smoothing), len(labels)
        if self.teacher:
            loss = loss.lerp(self.teacher.divergence(frames, logits, recipe.distill_temperature), recipe.distill)
        self.optimizer.zero_grad(set_to_none=True)
        # gradients are averaged over processes: a larger part of the batch weighs more
        norm = self._descend(loss if n_in_all in (None, n) else loss * (n * self.world.size / n_in_all))
        if self.average:
            self.average.update_parameters(self.network)
        right, clipped = (logits.argmax(1) == labels).sum(), norm > (recipe.clip_norm or float("inf"))
        images = torch.tensor(n, device=loss.device)
        return self.world.add(torch.stack([loss.detach() * n, right, clipped / self.world.size, images]).double())

    def _descend(self, loss: Tensor) -> Tensor:
        """Go down the gradient of a loss, clipped; return the gradient's norm."""
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip_norm or float("inf"))
        self.scaler.step(self.optimizer)  # in fp16 it leaves a step out whose gradient is not finite
        self.scaler.update()
        return norm

    def kept(self) -> nn.Module:
        """Return the network that is judged and kept: the averaged one where there is one."""
        return self.average.module if self.average else self.network

    def tensors(self) -> dict[str, Tensor]:
        """Return a copy of everything that a step changes, by name."""
        everything = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        if self.average:
            everything |= {f"average.{name}": value for name, value in self.average.state_dict().items()}
        for i, parameter in enumerate(self._parameters()):
            for name, value in self.optimizer.state.get(parameter, {}).items():
                everything[f"optimizer.{i}.{name}"] = value
        everything |= {f"scaler.{name}": torch.tensor(value) for name, value in self.scaler.state_dict().items()}
        return {name: value.detach().cpu().contiguous().clone() for name, value in everything.items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Go back to what `tensors` returned, memory layout included: the next step is the same to the last bit."""
        self.network.load_state_dict(_below("network.", tensors))
        if self.average:
            self.average.load_state_dict(_below("average.", tensors))
        self.optimizer.state.clear()
        for i, parameter in enumerate(self._parameters()):
            state = {}
            for name, value in _below(f"optimizer.{i}.", tensors).items():
                like = torch.empty_like(parameter) if value.shape == parameter.shape else torch.empty_like(value)
                state[name] = like.detach().copy_(value)
            if state:
                self.optimizer.state[parameter] = state
        if held := _below("scaler.", tensors):
            self.scaler.load_state_dict({name: value.item() for name, value in held.items()})

    def _parameters(self) -> list[nn.Parameter]:
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]


def build_optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Build the recipe's optimiser; without `decay_norm_bias`, what has one dimension is not decayed."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    decayed = [p for p in parameters if p.ndim > 1 or recipe.decay_norm_bias]
    spared = [p for p in parameters if p.ndim <= 1 and not recipe.decay_norm_bias]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": spared, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, recipe.learning_rate, momentum=0.9, nesterov=True, fused=True)
    kind = torch.optim.AdamW if recipe.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, recipe.learning_rate, fused=True)


def _parallel(network: nn.Module, device: str) -> DistributedDataParallel:
    """Have gradients averaged over processes; the statistics of normalisation are the same in each already."""
    ids = [torch.device(device)] if device.startswith("cuda") else None
    return DistributedDataParallel(network, ids, forward_sync_buffers=False, gradient_as_bucket_view=True)


def _averaged(network: nn.Module, decay: float) -> AveragedModel:
    """Average weights and statistics exponentially, over a short past at first.

    Source: the moving average of TensorFlow's tf.train.ExponentialMovingAverage with num_updates.
    """

    def update(averages: Sequence[Tensor], values: Sequence[Tensor], n: Tensor) -> None:
        if averages[0].is_floating_point():
            now = min(decay, (1 + float(n)) / (10 + float(n)))
            torch._foreach_lerp_(list(averages), list(values), 1 - now)
        else:  # counters of seen batches
            torch._foreach_copy_(list(averages), list(values))

    return AveragedModel(network, multi_avg_fn=update, use_buffers=True)  # type: ignore[arg-type]


def _mixers(recipe: Recipe, classes: int) -> list[nn.Module]:
    mixers: list[nn.Module] = []
    if not (recipe.mixup_alpha or recipe.cutmix_alpha):
        return mixers
    from torchvision.transforms import v2  # 2 s to import

    if recipe.mixup_alpha:
        mixers.append(v2.MixUp(alpha=recipe.mixup_alpha, num_classes=classes))
    if recipe.cutmix_alpha:
        mixers.append(v2.CutMix(alpha=recipe.cutmix_alpha, num_classes=classes))
    return mixers


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
