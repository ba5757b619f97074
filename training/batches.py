"""Batches of a pack's training rows: shuffled, augmented, and ready before the step asks for them."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inference.pack import Pack
from training.augment import Augmentation
from training.recipe import Recipe

AHEAD = 2
"""Batches prepared in advance, by one thread: OpenCV and NumPy let the step run meanwhile."""
ORDER, PIXELS, NETWORK = 0, 1, 2
"""What a random number is for: each use has its own stream, so that none shifts another."""


def generator(seed: int, purpose: int, epoch: int, step: int = 0) -> np.random.Generator:
    """Return the random numbers of one use at one step: they depend on nothing that ran before, so none are saved."""
    return np.random.default_rng((seed, purpose, epoch, step))


@dataclass(frozen=True)
class Batches:
    """The training rows of a pack, cut into batches of a recipe."""

    pack: Pack
    recipe: Recipe
    seed: int
    mean: tuple[float, ...]

    @property
    def steps(self) -> int:
        """The steps of an epoch; a last batch of one image, which normalisation cannot use, is left out."""
        n, batch = len(self.pack.rows("train")), self.recipe.batch
        return max(n // batch + (n % batch >= 2), 1)

    @property
    def images(self) -> int:
        """The images of an epoch."""
        return min(self.steps * self.recipe.batch, len(self.pack.rows("train")))

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Return the pack rows of an epoch in its order: a full shuffle, or equally many draws of each class."""
        random, rows = generator(self.seed, ORDER, epoch), self.pack.rows("train")
        if not self.recipe.balanced:
            return random.permutation(rows)
        labels, classes = self.pack.labels_n[rows], len(self.pack.classes)
        each = math.ceil(len(rows) / classes)
        drawn = [random.permutation(np.resize(random.permutation(rows[labels == c]), each)) for c in range(classes)]
        return random.permutation(np.concatenate(drawn))[: len(rows)]

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (frames uint8 (n, S, S, 3), labels int64 (n,)) from `first_step` on."""
        order, augmentation = self.order(epoch), Augmentation(self.recipe, self.pack.geometry.size_px, self.mean)

        def prepare(step: int) -> tuple[Tensor, Tensor]:
            rows = order[step * self.recipe.batch : (step + 1) * self.recipe.batch]
            frames = augmentation(gather(self.pack, rows), generator(self.seed, PIXELS, epoch, step))
            return torch.from_numpy(frames), torch.from_numpy(self.pack.labels_n[rows])

        with ThreadPoolExecutor(1, thread_name_prefix="batches") as thread:
            ready: deque[Future[tuple[Tensor, Tensor]]] = deque()
            try:
                for step in range(first_step, self.steps):
                    while len(ready) < AHEAD and step + len(ready) < self.steps:
                        ready.append(thread.submit(prepare, step + len(ready)))
                    yield ready.popleft().result()
            finally:
                for future in ready:
                    future.cancel()


def gather(pack: Pack, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return a copy of pack rows in the order given, read from the disk in ascending order."""
    ascending = np.argsort(rows, kind="stable")
    images = np.empty((len(rows), *pack.images_nhwc.shape[1:]), np.uint8)
    images[ascending] = pack.images_nhwc[rows[ascending]]
    return images
