"""Batches of a pack's training rows: shuffled, augmented, and ready before the step asks for them."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.data.pack import Pack
from training.augment.params import sample_params
from training.augment.prepare import BatchPreparer, shrink
from training.compute.distribution import NOT_DISTRIBUTED, DistContext
from training.recipe import Recipe
from training.schedule import side_px_at

PREFETCH_BATCHES = 2
"""Batches prepared in advance by one thread; OpenCV and NumPy release Python's lock, so that the step goes on."""
ORDER_STREAM, AUGMENT_STREAM, NETWORK_STREAM = 0, 1, 2
"""Uses of random numbers. Each has its own stream, so that none shifts another."""


class PreparedBatch(NamedTuple):
    """The batch of one step as a thread prepared it on the host; `Batches.finish` makes the images, on the device."""

    prepared: tuple[Tensor, ...]
    """The arguments of the preparer's `finish`."""
    labels_n: Tensor
    """int64 (n,)."""
    images: int
    """The number of images of the step over all processes."""
    side_px: int
    """The side of the images that the network gets."""

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All tensors of the batch."""
        return *self.prepared, self.labels_n

    @property
    def shape(self) -> tuple[int, int]:
        """The number of images and their side."""
        return self.images, self.side_px

    def copied_to(self, device: str) -> PreparedBatch:
        """Return the batch on a device, without waiting for the copies."""
        return self._with(tensor.to(device, non_blocking=True) for tensor in self.tensors)

    def pinned(self) -> PreparedBatch:
        """Return the batch in pinned memory, from which a copy to a GPU need not be waited for."""
        return self._with(tensor.pin_memory() for tensor in self.tensors)

    def _with(self, tensors: Iterable[Tensor]) -> PreparedBatch:
        *prepared, labels = tensors
        return self._replace(prepared=tuple(prepared), labels_n=labels)


class Batch(NamedTuple):
    """The images and labels of one step, this process's part of them."""

    frames_nhwc: Tensor
    """uint8 (n, s, s, 3) RGB, augmented."""
    labels_n: Tensor
    """int64 (n,)."""
    images: int
    """The number of images of the step over all processes."""


def random_generator(seed: int, purpose: int, epoch: int, step: int = 0) -> np.random.Generator:
    """Return the random generator of one use at one step. It depends on nothing else, so that no state is saved."""
    return np.random.default_rng((seed, purpose, epoch, step))


@dataclass(frozen=True)
class Batches:
    """The training rows of a pack, cut into batches of a recipe; each process gets its part of every batch.

    Each process draws the parameters of augmentation for the whole batch, so that the batch does not depend on how many
    processes share it.
    """

    pack: Pack
    recipe: Recipe
    seed: int
    preparer: BatchPreparer
    dist: DistContext = NOT_DISTRIBUTED

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """The pack rows that are trained on."""
        return self.pack.rows("train")

    @cached_property
    def steps(self) -> int:
        """The number of steps of an epoch. The last batch is left out when it has one image, or fewer than processes.

        Batch normalization needs two images.
        """
        n, batch = len(self.rows), self.recipe.batch
        return max(n // batch + (n % batch >= max(2, self.dist.size)), 1)

    def network_seed(self, epoch: int, step: int) -> int:
        """Return the seed of the randomness inside a step; rank 0 uses that of a single process."""
        return int(
            random_generator(self.seed, NETWORK_STREAM, epoch, step).integers(2**63, size=self.dist.rank + 1)[-1]
        )

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Return the pack rows of an epoch in its order: a full shuffle, or equally many draws of each class."""
        random, rows = random_generator(self.seed, ORDER_STREAM, epoch), self.rows
        if not self.recipe.balanced:
            return random.permutation(rows)
        labels, classes = self.pack.labels_n[rows], len(self.pack.classes)
        each = math.ceil(len(rows) / classes)
        drawn = [random.permutation(np.resize(random.permutation(rows[labels == c]), each)) for c in range(classes)]
        return random.permutation(np.concatenate(drawn))[: len(rows)]

    def prepare_epoch(self, epoch: int, first_step: int = 0) -> Iterator[PreparedBatch]:
        """Yield the host batches of this process from `first_step` on; `finish` makes each into a batch."""
        order, size_px = self.order(epoch), self.pack.geometry.size_px
        side, batch = side_px_at(self.recipe, epoch, size_px), self.recipe.batch

        def prepare_step(step: int) -> PreparedBatch:
            rows = order[batch * step : batch * (step + 1)]
            part = self.dist.shard(len(rows))
            random = random_generator(self.seed, AUGMENT_STREAM, epoch, step)
            prepared = self.preparer.prepare(
                rows[part], sample_params(self.recipe, len(rows), size_px, random).select(part)
            )
            host = PreparedBatch(prepared, torch.from_numpy(self.pack.labels_n[rows[part]]), len(rows), side)
            return host.pinned() if self.preparer.pinned else host

        with ThreadPoolExecutor(1, thread_name_prefix="batches") as thread:
            ready: deque[Future[PreparedBatch]] = deque()
            try:
                for step in range(first_step, self.steps):
                    while len(ready) < PREFETCH_BATCHES and step + len(ready) < self.steps:
                        ready.append(thread.submit(prepare_step, step + len(ready)))
                    yield ready.popleft().result()
            finally:
                for future in ready:
                    future.cancel()

    def finish(self, host: PreparedBatch) -> Batch:
        """Return the finished batch of a host batch on the device: images are augmented and have their final side."""
        frames = shrink(self.preparer.finish(*host.prepared), host.side_px)
        return Batch(frames, host.labels_n, host.images)
