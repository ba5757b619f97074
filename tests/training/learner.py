"""One network and its steps, without a pack: what the tests of the step train."""

from __future__ import annotations

import torch
from torch import Tensor

from training.batches import Batch
from training.compute.distribution import SINGLE_PROCESS
from training.compute.mode import Compute
from training.step import NetworkSpec, start, train_step


class Learner:
    """A state and its objective; `step` takes plain tensors and returns the totals of that step alone."""

    def __init__(self, arch, classes, recipe, mode, *, seed=0, device="cpu", dist=SINGLE_PROCESS, teacher=None):
        compute = Compute(mode, device, dist)
        self.state, self.objective = start(NetworkSpec(arch, classes), recipe, compute, seed, teacher)
        self.state.network.train()

    def step(self, frames: Tensor, labels: Tensor, rate: float, seed: int, images: int | None = None) -> Tensor:
        self.state.totals.zero_()
        self.state.begin_step(rate)
        torch.manual_seed(seed)
        train_step(self.state, self.objective, Batch(frames, labels, images or len(labels)))
        return self.state.totals.clone()
