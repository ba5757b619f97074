"""Batches of a pack's training rows: shuffled, augmented, and ready before the step asks for them."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.data.pack import Pack
from training.augment.params import AugmentParams, sample_params
from training.compute.distribution import SINGLE_PROCESS, DistContext
from training.prepare import BatchPreparer, shrink
from training.recipe import Recipe
from training.schedule import side_px

AHEAD = 2
"""Batches prepared in advance, by one thread: OpenCV and NumPy let the step run meanwhile."""
ORDER, PIXELS, NETWORK = 0, 1, 2
"""What a random number is for: each use has its own stream, so that none shifts another."""


class Batch(NamedTuple):
    """One step's images and labels, this process's part of them."""

    frames_nhwc: Tensor
    """uint8 (n, s, s, 3) RGB, augmented."""
    labels_n: Tensor
    """int64 (n,)."""
    images: int
    """The images of the step over all processes."""

    def to(self, device: str) -> tuple[Tensor, Tensor]:
        """Return frames and labels on the device, without waiting for them."""
        return self.frames_nhwc.to(device, non_blocking=True), self.labels_n.to(device, non_blocking=True)


def generator(seed: int, purpose: int, epoch: int, step: int = 0) -> np.random.Generator:
    """Return the random numbers of one use at one step: they depend on nothing that ran before, so none are saved."""
    return np.random.default_rng((seed, purpose, epoch, step))


@dataclass(frozen=True)
class Batches:
    """The training rows of a pack, cut into batches of a recipe; each process gets its part of every batch.

    Each process params the numbers of augmentation for the whole batch: it is the same for any number of processes.
    """

    pack: Pack
    recipe: Recipe
    seed: int
    preparer: BatchPreparer
    dist: DistContext = SINGLE_PROCESS

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """The pack rows that are trained on."""
        return self.pack.rows("train")

    @cached_property
    def steps(self) -> int:
        """The steps of an epoch; a last batch of one image, or of fewer than processes, cannot be used: it is left out.

        Normalisation by the batch needs two images.
        """
        n, batch = len(self.rows), self.recipe.batch
        return max(n // batch + (n % batch >= max(2, self.dist.size)), 1)

    def network_seed(self, epoch: int, step: int) -> int:
        """Return the seed of the randomness inside a step; rank 0 has the one that a single process would have."""
        return int(generator(self.seed, NETWORK, epoch, step).integers(2**63, size=self.dist.rank + 1)[-1])

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Return the pack rows of an epoch in its order: a full shuffle, or equally many draws of each class."""
        random, rows = generator(self.seed, ORDER, epoch), self.rows
        if not self.recipe.balanced:
            return random.permutation(rows)
        labels, classes = self.pack.labels_n[rows], len(self.pack.classes)
        each = math.ceil(len(rows) / classes)
        drawn = [random.permutation(np.resize(random.permutation(rows[labels == c]), each)) for c in range(classes)]
        return random.permutation(np.concatenate(drawn))[: len(rows)]

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """Yield the batches of this process from `first_step` on; `side_px` gives the side of their images."""
        order, size_px = self.order(epoch), self.pack.geometry.size_px
        side, batch = side_px(self.recipe, epoch, size_px), self.recipe.batch

        def prepare(step: int) -> tuple[Tensor, AugmentParams, Tensor]:
            rows = order[batch * step : batch * (step + 1)]
            part = self.dist.shard(len(rows))
            params = sample_params(self.recipe, len(rows), size_px, generator(self.seed, PIXELS, epoch, step)).of(part)
            return self.preparer.prepare(rows[part], params), params, torch.from_numpy(self.pack.labels_n[rows[part]])

        with ThreadPoolExecutor(1, thread_name_prefix="batches") as thread:
            ready: deque[Future[tuple[Tensor, AugmentParams, Tensor]]] = deque()
            try:
                for step in range(first_step, self.steps):
                    while len(ready) < AHEAD and step + len(ready) < self.steps:
                        ready.append(thread.submit(prepare, step + len(ready)))
                    prepared, params, labels = ready.popleft().result()
                    frames = shrink(self.preparer.finish(prepared, params), side)
                    yield Batch(frames, labels, min(batch, len(order) - batch * step))
            finally:
                for future in ready:
                    future.cancel()
