"""One training step: forward, loss, backward, clip, optimizer, average; and what it needs and never changes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import models
from models.deployed import Deployed
from training.batches import Batch, Batches, PreparedBatch
from training.compute.capture import CapturedStep
from training.compute.mode import Compute, Forward
from training.optimizer import Average, build_optimizer
from training.recipe import Recipe
from training.state import TrainState
from training.teacher import Teacher

StepFunction = Callable[[PreparedBatch], None]


@dataclass(frozen=True)
class NetworkSpec:
    """Which network is built, for how many classes, and from which weights."""

    arch: str
    classes: int
    size_px: int | None = None
    """The side of the images; None: the network's own."""
    pretrained: bool | str = False
    """Start from timm's weights, or from those of a file."""


@dataclass(frozen=True)
class Objective:
    """Makes logits and a loss of a batch. Nothing in it changes while training."""

    recipe: Recipe
    compute: Compute
    deployed: Deployed
    """Normalizes the frames; it holds the trained network itself."""
    network: Forward
    """The trained network as it is called in a step: compiled, or parallel over processes, or plain."""
    classes: int
    teacher: Teacher | None = None

    def mix(self, inputs_nchw: Tensor, labels_n: Tensor) -> tuple[Tensor, Tensor]:
        """Return inputs and targets, mixed by mixup or cutmix in the recipe's share of the batches."""
        recipe = self.recipe
        if not (recipe.mixup_alpha or recipe.cutmix_alpha) or torch.rand(()) >= recipe.mix_p:
            return inputs_nchw, labels_n
        from torchvision.transforms import v2  # 2 s to import

        kinds = {v2.MixUp: recipe.mixup_alpha, v2.CutMix: recipe.cutmix_alpha}
        mixers = [kind(alpha=alpha, num_classes=self.classes) for kind, alpha in kinds.items() if alpha]
        mixed: tuple[Tensor, Tensor] = mixers[int(torch.randint(len(mixers), ()))](inputs_nchw, labels_n)
        return mixed

    def forward(self, inputs_nchw: Tensor) -> Tensor:
        """Return float32 (n, classes) logits of normalized inputs, computed in the chosen precision."""
        return self.compute.mode.logits(self.network, inputs_nchw)

    def loss(self, logits_nc: Tensor, targets: Tensor, frames_nhwc: Tensor) -> Tensor:
        """Return the mean loss: cross entropy, and with a teacher the recipe's share of the distillation loss."""
        recipe = self.recipe
        loss = cross_entropy(logits_nc, targets, label_smoothing=recipe.label_smoothing)
        if self.teacher:
            soft = self.teacher.divergence(frames_nhwc, logits_nc, recipe.distill_temperature)
            loss = loss.lerp(soft, recipe.distill)
        return loss


def initialize(
    spec: NetworkSpec, recipe: Recipe, compute: Compute, seed: int = 0, teacher: Teacher | None = None
) -> tuple[TrainState, Objective]:
    """Return the state before the first step, with weights drawn by `seed`, and the objective of its steps."""
    compute.configure()
    captured = compute.mode.captured
    torch.manual_seed(seed)
    dropout = recipe.dropout_of(spec.arch)
    network = models.build(spec.arch, spec.classes, size_px=spec.size_px, dropout=dropout, pretrained=spec.pretrained)
    if compute.dist.size > 1 and compute.on_gpu:
        from models.sync_norm import synchronize_batch_norm  # timm takes seconds to import

        network = synchronize_batch_norm(network)
    deployed = Deployed(network, *models.normalization(spec.arch)).to(compute.device)
    network = compute.mode.prepare(deployed.network)
    state = TrainState(
        network=network,
        optimizer=build_optimizer(network, recipe, captured),
        average=Average(network, recipe.average_decay, captured) if recipe.average_decay else None,
        scaler=compute.mode.scaler(compute.device),
        totals=torch.zeros(4, dtype=torch.float64, device=compute.device),
    )
    forward = compute.mode.compile_or_eager(compute.dist.data_parallel(network))
    return state, Objective(recipe, compute, deployed, forward, spec.classes, teacher)


def train_step(state: TrainState, objective: Objective, batch: Batch) -> None:
    """Take one step on a batch; change the weights, the optimizer, the average and the totals.

    The caller sets the rate (`state.begin_step`) and torch's random seed, from which all randomness in the step
    (dropout, mixing) comes, so that no generator's state needs to be saved. Nothing is read back from the device, and
    but for mixing nothing is sent there: the step can be captured as a CUDA graph.
    """
    recipe, dist = objective.recipe, objective.compute.dist
    frames, labels, images = batch
    inputs, targets = objective.mix(objective.deployed.normalize(frames), labels)
    logits = objective.forward(inputs)
    loss = objective.loss(logits, targets, frames)
    state.optimizer.zero_grad(set_to_none=True)
    n = len(labels)
    # gradients are averaged over processes: a process with a larger part of the batch weighs more
    state.scaler.scale(loss * (n * dist.size / images)).backward()  # type: ignore[no-untyped-call]
    state.scaler.unscale_(state.optimizer)
    limit = recipe.clip_norm or math.inf
    norm = nn.utils.clip_grad_norm_(state.network.parameters(), limit)
    state.scaler.step(state.optimizer)  # in fp16 it leaves out a step whose gradient is not finite
    state.scaler.update()
    if state.average:
        state.average.update()
    correct, own = (logits.argmax(1) == labels).sum(), torch.full((), n, device=loss.device)
    totals = torch.stack([loss.detach() * n, correct, (norm > limit) / dist.size, own])
    state.totals += dist.sum_over_processes(totals.double())


def build_step_function(state: TrainState, objective: Objective, batches: Batches) -> StepFunction:
    """Return what takes a step on a batch from the host: `train_step` itself, or its capture, replayed."""
    compute = objective.compute

    def step(host: PreparedBatch) -> None:
        train_step(state, objective, batches.finish(host.copied_to(compute.device)))

    return CapturedStep(step, state.written_tensors, compute.device) if compute.mode.captured else step
