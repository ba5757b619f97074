"""Batches of a pack's training rows: shuffled, augmented, and ready before the step asks for them."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.data.pack import Pack
from training.augment.params import AugmentParams, sample_params
from training.compute.world import ALONE, World
from training.prepare import Feed, shrink
from training.recipe import Recipe
from training.schedule import side_px

AHEAD = 2
"""Batches prepared in advance, by one thread: OpenCV and NumPy let the step run meanwhile."""
ORDER, PIXELS, NETWORK = 0, 1, 2
"""What a random number is for: each use has its own stream, so that none shifts another."""


def generator(seed: int, purpose: int, epoch: int, step: int = 0) -> np.random.Generator:
    """Return the random numbers of one use at one step: they depend on nothing that ran before, so none are saved."""
    return np.random.default_rng((seed, purpose, epoch, step))


@dataclass(frozen=True)
class Batches:
    """The training rows of a pack, cut into batches of a recipe; each process of a world gets its part of every batch.

    The numbers of augmentation are drawn for the whole batch by each process: the batch is the same for any world.
    """

    pack: Pack
    recipe: Recipe
    seed: int
    feed: Feed
    world: World = field(default=ALONE)

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
        return max(n // batch + (n % batch >= max(2, self.world.size)), 1)

    @property
    def images(self) -> int:
        """The images of an epoch."""
        return min(self.steps * self.recipe.batch, len(self.rows))

    def images_at(self, step: int) -> int:
        """Return the images of one step, over all processes."""
        return min(self.recipe.batch, len(self.rows) - step * self.recipe.batch)

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Return the pack rows of an epoch in its order: a full shuffle, or equally many draws of each class."""
        random, rows = generator(self.seed, ORDER, epoch), self.rows
        if not self.recipe.balanced:
            return random.permutation(rows)
        labels, classes = self.pack.labels_n[rows], len(self.pack.classes)
        each = math.ceil(len(rows) / classes)
        drawn = [random.permutation(np.resize(random.permutation(rows[labels == c]), each)) for c in range(classes)]
        return random.permutation(np.concatenate(drawn))[: len(rows)]

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (frames uint8 (n, s, s, 3), labels int64 (n,)) of this process from `first_step` on; s: see side_px."""
        order, size_px = self.order(epoch), self.pack.geometry.size_px
        side = side_px(self.recipe, epoch, size_px)

        def prepare(step: int) -> tuple[Tensor, AugmentParams, Tensor]:
            rows = order[step * self.recipe.batch : (step + 1) * self.recipe.batch]
            part = self.world.part(len(rows))
            params = sample_params(self.recipe, len(rows), size_px, generator(self.seed, PIXELS, epoch, step)).of(part)
            return self.feed.prepare(rows[part], params), params, torch.from_numpy(self.pack.labels_n[rows[part]])

        with ThreadPoolExecutor(1, thread_name_prefix="batches") as thread:
            ready: deque[Future[tuple[Tensor, AugmentParams, Tensor]]] = deque()
            try:
                for step in range(first_step, self.steps):
                    while len(ready) < AHEAD and step + len(ready) < self.steps:
                        ready.append(thread.submit(prepare, step + len(ready)))
                    prepared, params, labels = ready.popleft().result()
                    yield shrink(self.feed.finish(prepared, params), side), labels
            finally:
                for future in ready:
                    future.cancel()
