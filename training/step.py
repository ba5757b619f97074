"""One training step (forward, loss, backward, clip, optimizer, average), and the objects that it needs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import models
from models.deployed import DeployedNetwork
from training.batches import Batch, Batches, PreparedBatch
from training.capture import CapturedStep
from training.compute.mode import Compute, NetworkCall
from training.optimizer import AveragedNetwork, build_optimizer
from training.recipe import Recipe
from training.state import TrainState
from training.teacher import Teacher

StepFunction = Callable[[PreparedBatch], None]


@dataclass(frozen=True)
class NetworkSpec:
    """The network to build, its number of classes, and the weights to start from."""

    arch: str
    classes: int
    size_px: int | None = None
    """The side of the images; None: the side that the network is made for."""
    pretrained: bool | str = False
    """Start from timm's weights, or from those of a file."""


@dataclass(frozen=True)
class Objective:
    """The loss of a batch. Nothing in it changes while training, but for the weights of the network."""

    recipe: Recipe
    compute: Compute
    deployed: DeployedNetwork
    """Normalizes the frames, and holds the trained network."""
    network_call: NetworkCall
    """The trained network as a step calls it: compiled, or parallel over processes, or as it is."""
    classes: int
    teacher: Teacher | None = None

    def mix(self, inputs_nchw: Tensor, labels_n: Tensor) -> tuple[Tensor, Tensor]:
        """Return inputs and targets, in the recipe's share of the batches mixed by mixup or cutmix."""
        recipe = self.recipe
        if not (recipe.mixup_alpha or recipe.cutmix_alpha) or torch.rand(()) >= recipe.mix_p:
            return inputs_nchw, labels_n
        from torchvision.transforms import v2  # 2 s to import

        kinds = {v2.MixUp: recipe.mixup_alpha, v2.CutMix: recipe.cutmix_alpha}
        mixers = [kind(alpha=alpha, num_classes=self.classes) for kind, alpha in kinds.items() if alpha]
        mixer = mixers[int(torch.randint(len(mixers), ()))]
        mixed: tuple[Tensor, Tensor] = mixer(inputs_nchw, labels_n)
        return mixed

    def forward(self, inputs_nchw: Tensor) -> Tensor:
        """Return float32 (n, classes) logits of normalized inputs, computed in the chosen precision."""
        return self.compute.mode.logits(self.network_call, inputs_nchw)

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
    torch.manual_seed(seed)  # the same in each process, so that all start from the same weights
    dropout = recipe.dropout_of(spec.arch)
    network = models.build(spec.arch, spec.classes, size_px=spec.size_px, dropout=dropout, pretrained=spec.pretrained)
    if compute.dist.size > 1 and compute.on_gpu:
        from models.sync_norm import synchronize_batch_norm  # timm takes seconds to import

        network = synchronize_batch_norm(network)
    deployed = DeployedNetwork(network, *models.normalization(spec.arch)).to(compute.device)
    network = compute.mode.prepare(deployed.network)  # before the optimizer and the average copy its layout
    state = TrainState(
        network=network,
        optimizer=build_optimizer(network, recipe, captured),
        average=AveragedNetwork(network, recipe.average_decay, captured) if recipe.average_decay else None,
        scaler=compute.mode.scaler(compute.device),
        totals=torch.zeros(4, dtype=torch.float64, device=compute.device),
    )
    forward = compute.mode.compile_or_eager(compute.dist.data_parallel(network))
    return state, Objective(recipe, compute, deployed, forward, spec.classes, teacher)


def train_step(state: TrainState, objective: Objective, batch: Batch) -> None:
    """Take one step on a batch; change the weights, the optimizer, the average and the totals.

    The caller sets the rate (`state.begin_step`) and torch's random seed. All randomness in the step (dropout, mixing)
    comes from that seed, so that no generator's state has to be saved. Nothing is read from the device, and nothing is
    sent there except by mixing, so that the step can be captured as a CUDA graph.
    """
    recipe = objective.recipe
    dist = objective.compute.dist
    frames, labels, images = batch
    inputs, targets = objective.mix(objective.deployed.normalize(frames), labels)
    logits = objective.forward(inputs)
    loss = objective.loss(logits, targets, frames)
    state.optimizer.zero_grad(set_to_none=True)  # gradients are written, not added to zeros
    n = len(labels)
    # gradients are averaged over processes, whose parts differ by an image: each counts by its share of the batch
    state.scaler.scale(loss * (n * dist.size / images)).backward()  # type: ignore[no-untyped-call]
    state.scaler.unscale_(state.optimizer)  # the clipping norm is one of true gradients
    limit = recipe.clip_norm or math.inf  # without clipping the norm is still computed, for the totals
    norm = nn.utils.clip_grad_norm_(state.network.parameters(), limit)
    state.scaler.step(state.optimizer)  # in fp16 it skips a step whose gradient is not finite
    state.scaler.update()
    if state.average:
        state.average.update()
    correct = (logits.argmax(1) == labels).sum()
    clipped = (norm > limit) / dist.size  # all processes have the same norm, and their sum is to count one step
    images_here = torch.full((), n, device=loss.device)
    totals = torch.stack([loss.detach() * n, correct, clipped, images_here])
    state.totals += dist.sum_over_processes(totals.double())


def build_step_function(state: TrainState, objective: Objective, batches: Batches) -> StepFunction:
    """Return the function that takes a step on a prepared batch: `train_step`, or its replay as a CUDA graph."""
    compute = objective.compute

    def step(prepared: PreparedBatch) -> None:
        train_step(state, objective, batches.finish(prepared.copied_to(compute.device)))

    return CapturedStep(step, state.written_tensors, compute.device) if compute.mode.captured else step
