"""What the tests of the step train: one network without a pack, or one on a pack, by captured steps or plain ones."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from training.augment.prepare import DeviceAugment, load_resident
from training.batches import Batch, Batches
from training.capture import WARM_UP_STEPS
from training.compute.distribution import NOT_DISTRIBUTED
from training.compute.mode import Compute, ComputeMode
from training.step import NetworkSpec, build_step_function, initialize, train_step


def finished(batches: Batches, epoch: int, device: str = "cpu") -> list[Batch]:
    """Return the batches of an epoch, as the network gets them."""
    return [batches.finish(host.copied_to(device)) for host in batches.prepare_epoch(epoch)]


class Learner:
    """A state and its objective; `step` takes plain tensors and returns the totals of that step alone."""

    def __init__(self, arch, classes, recipe, mode, *, seed=0, device="cpu", dist=NOT_DISTRIBUTED, teacher=None):
        self.device, compute = device, Compute(mode, device, dist)
        self.state, self.objective = initialize(NetworkSpec(arch, classes), recipe, compute, seed, teacher)
        self.state.network.train()

    def step(self, frames: Tensor, labels: Tensor, rate: float, seed: int, images: int | None = None) -> Tensor:
        self.state.totals.zero_()
        self.state.begin_step(rate)
        torch.manual_seed(seed)
        batch = Batch(frames.to(self.device), labels.to(self.device), images or len(labels))
        train_step(self.state, self.objective, batch)
        return self.state.totals.clone()


class Recorder(TorchDispatchMode):
    """Records the operations of a step on its very tensors, as a CUDA graph does, and can replay them.

    What Python computes is frozen: a replay sees a change only in a tensor that the step has read.
    """

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **kwargs or {})
        self.calls.append((function, args, kwargs or {}, made))
        return made

    @torch.no_grad()
    def replay(self):
        for function, args, kwargs, made in self.calls:
            for before, now in zip(tree_leaves(made), tree_leaves(function(*args, **kwargs)), strict=True):
                if isinstance(before, Tensor) and before.untyped_storage()._cdata != now.untyped_storage()._cdata:
                    before.copy_(now)


def record_operations(step):
    """Stand in for the capture of a graph on the CPU; a capture changes nothing, so the recorded step is undone."""
    for _ in range(WARM_UP_STEPS):
        step()
    with Recorder() as recorder:
        step()
    return recorder.replay


class Training:
    """A network with batch normalization on a pack; `take` is its CapturedStep, or a plain step."""

    def __init__(self, pack, recipe, captured, device="cpu", calls=False):
        """calls: what would be captured is called."""
        compute = Compute(ComputeMode("fp32", "channels_last", captured=captured), device)
        self.state, objective = initialize(NetworkSpec("resnet_inspired", len(pack.classes)), recipe, compute, seed=1)
        self.state.network.train()
        preparer = DeviceAugment(pack, (0.5, 0.5, 0.5), device, load_resident(pack, device))
        self.batches = Batches(pack, recipe, 3, preparer)
        take = build_step_function(self.state, objective, self.batches)
        self.take = take.step if calls else take

    def losses(self, epochs):
        """Train these epochs; return the totals after each step."""
        totals = []
        for epoch in epochs:
            for step, batch in enumerate(self.batches.prepare_epoch(epoch)):
                self.state.begin_step(2e-3 / (1 + len(totals)))
                torch.manual_seed(self.batches.network_seed(epoch, step))
                self.take(batch)
                totals.append(self.state.totals.clone())
        return torch.stack(totals)
