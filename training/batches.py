"""Batches of the training rows of a pack: shuffled, augmented and prepared ahead of the step."""

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
"""Batches prepared in advance by one thread; OpenCV and NumPy release Python's lock, so the step runs meanwhile."""
ORDER_STREAM, AUGMENT_STREAM, NETWORK_STREAM = 0, 1, 2
"""The uses of random numbers. Each has a stream of its own, so that a change in one does not shift the others."""


class PreparedBatch(NamedTuple):
    """The batch of one step before `Batches.finish`, which makes the images on the device."""

    inputs: tuple[Tensor, ...]
    """The arguments of the preparer's `finish`."""
    labels_n: Tensor
    """int64 (n,)."""
    image_count: int
    """The number of images of the step over all processes."""
    side_px: int
    """The side of the images that the network gets."""

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All tensors of the batch."""
        return *self.inputs, self.labels_n

    @property
    def shape(self) -> tuple[int, int]:
        """The number of images and their side."""
        return self.image_count, self.side_px

    def copied_to(self, device: str) -> PreparedBatch:
        """Return the batch on a device; the copies may still be under way."""
        return self._with(tensor.to(device, non_blocking=True) for tensor in self.tensors)

    def pinned(self) -> PreparedBatch:
        """Return the batch in pinned memory, from which a GPU copies while the host goes on."""
        return self._with(tensor.pin_memory() for tensor in self.tensors)

    def _with(self, tensors: Iterable[Tensor]) -> PreparedBatch:
        *inputs, labels = tensors
        return self._replace(inputs=tuple(inputs), labels_n=labels)


class Batch(NamedTuple):
    """The part of this process of the images and labels of one step."""

    frames_nhwc: Tensor
    """uint8 (n, s, s, 3) RGB, augmented."""
    labels_n: Tensor
    """int64 (n,)."""
    image_count: int
    """The number of images of the step over all processes."""


def random_generator(seed: int, purpose: int, epoch: int, step: int = 0) -> np.random.Generator:
    """Return the random generator of one use at one step; it depends on nothing else, so no state has to be saved."""
    return np.random.default_rng((seed, purpose, epoch, step))


@dataclass(frozen=True)
class Batches:
    """The training rows of a pack, cut into the batches of a recipe; each process gets its part of every batch."""

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
        """The number of steps of an epoch, without a last batch that is too small."""
        full, rest = divmod(len(self.rows), self.recipe.batch)
        # batch normalization needs two images, and each process one
        takes_rest = rest >= max(2, self.dist.size)
        return max(full + takes_rest, 1)

    def network_seed(self, epoch: int, step: int) -> int:
        """Return the seed of the randomness inside a step, such as dropout; each process has another."""
        random = random_generator(self.seed, NETWORK_STREAM, epoch, step)
        # rank r takes the (r+1)-th number, so that rank 0 has the seed of a single process
        return int(random.integers(2**63, size=self.dist.rank + 1)[-1])

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Return the pack rows of an epoch in its order: a full shuffle, or equally many rows of each class."""
        random = random_generator(self.seed, ORDER_STREAM, epoch)
        rows = self.rows
        if not self.recipe.balanced:
            return random.permutation(rows)
        labels = self.pack.labels_n[rows]
        classes = len(self.pack.classes)
        per_class = math.ceil(len(rows) / classes)
        sampled = []
        for label in range(classes):
            shuffled = random.permutation(rows[labels == label])
            # np.resize repeats a small class as a whole: each row comes n or n + 1 times, never by chance
            sampled.append(random.permutation(np.resize(shuffled, per_class)))
        return random.permutation(np.concatenate(sampled))[: len(rows)]

    def prepare_epoch(self, epoch: int, first_step: int = 0) -> Iterator[PreparedBatch]:
        """Yield the prepared batches of this process from `first_step` on; `finish` makes each into a batch."""
        order = self.order(epoch)
        with ThreadPoolExecutor(1, thread_name_prefix="batches") as thread:
            ready: deque[Future[PreparedBatch]] = deque()
            try:
                for step in range(first_step, self.steps):
                    while len(ready) < PREFETCH_BATCHES and step + len(ready) < self.steps:
                        ready.append(thread.submit(self._prepare, order, epoch, step + len(ready)))
                    yield ready.popleft().result()
            finally:  # the caller may leave early, and the thread pool waits for everything that is not cancelled
                for future in ready:
                    future.cancel()

    def _prepare(self, order: NDArray[np.int64], epoch: int, step: int) -> PreparedBatch:
        """Prepare the batch of one step, in the thread."""
        size_px = self.pack.geometry.size_px
        start = self.recipe.batch * step
        rows = order[start : start + self.recipe.batch]
        part = self.dist.shard(len(rows))
        # each process samples the parameters of the whole batch, so that an image's do not depend on the processes
        random = random_generator(self.seed, AUGMENT_STREAM, epoch, step)
        params = sample_params(self.recipe, len(rows), size_px, random).select(part)
        inputs = self.preparer.prepare(rows[part], params)
        labels = torch.from_numpy(self.pack.labels_n[rows[part]])
        side_px = side_px_at(self.recipe, epoch, size_px)
        prepared = PreparedBatch(inputs, labels, len(rows), side_px)
        return prepared.pinned() if self.preparer.pinned else prepared

    def finish(self, prepared: PreparedBatch) -> Batch:
        """Return the batch on its device: the images are augmented and have their final side."""
        frames = shrink(self.preparer.finish(*prepared.inputs), prepared.side_px)
        return Batch(frames, prepared.labels_n, prepared.image_count)
