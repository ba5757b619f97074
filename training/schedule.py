"""The learning rate and the image size as functions of the progress of training."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from training.recipe import Recipe

PLATEAU_THRESHOLD = 1e-4
"""The share by which a loss must be lower to count. Source: torch.optim.lr_scheduler.ReduceLROnPlateau."""

SIDE_STEP_PX = 8
SIDE_STEPS = 4
"""Images grow in steps of about a quarter of the full side: few sides, because each is a CUDA graph to capture."""


@dataclass(frozen=True)
class Plateau:
    """The state of ReduceLROnPlateau(mode="min")."""

    factor: float = 1.0
    best_loss: float = math.inf
    bad_epochs: int = 0

    def as_json(self) -> dict[str, float | int | None]:
        """Return the fields, with null for the loss before the first epoch."""
        seen = math.isfinite(self.best_loss)
        return {"factor": self.factor, "best_loss": self.best_loss if seen else None, "bad_epochs": self.bad_epochs}

    def with_loss(self, val_loss: float, recipe: Recipe) -> Plateau:
        """Return the state after an epoch with this loss."""
        if recipe.schedule != "plateau":
            return self
        if val_loss < self.best_loss * (1 - PLATEAU_THRESHOLD):
            return Plateau(self.factor, val_loss, 0)
        if self.bad_epochs + 1 > recipe.plateau_patience:
            return Plateau(self.factor * recipe.plateau_factor, self.best_loss, 0)
        return replace(self, bad_epochs=self.bad_epochs + 1)


def rate_at(recipe: Recipe, epochs_done: float, plateau: Plateau | None = None) -> float:
    """Return the learning rate after `epochs_done` epochs, which may be a fraction.

    restarts: Loshchilov & Hutter 2016, as CosineAnnealingWarmRestarts stepped every batch. one_cycle: linear warm-up,
    then one cosine that ends on min_learning_rate with the last step.
    """
    top, low = recipe.learning_rate, recipe.min_learning_rate
    if recipe.schedule == "plateau":
        return max(top * (plateau or Plateau()).factor, low)
    if recipe.schedule == "restarts":
        into, length = epochs_done, recipe.restart_epochs
        while into >= length:
            into -= length
            length *= recipe.restart_factor
        return _half_cosine(top, low, math.pi * into / length)
    if epochs_done < recipe.warmup_epochs:
        return top * max(epochs_done / recipe.warmup_epochs, 0.01)  # the first step is not to be lost
    if recipe.schedule == "constant":
        return top
    share = (epochs_done - recipe.warmup_epochs) / max(recipe.epochs - recipe.warmup_epochs, 1e-9)
    return _half_cosine(top, low, math.pi * min(share, 1.0))


def _half_cosine(top: float, low: float, angle: float) -> float:
    """Return the value at `angle`, 0 to pi, of half a cosine that falls from `top` to `low`."""
    return low + (top - low) * (1 + math.cos(angle)) / 2


def side_px_at(recipe: Recipe, epoch: int, full_px: int) -> int:
    """Return the side of the images in an epoch; it grows to `full_px`, because small images cost less.

    A smaller side is a multiple of 8 px.

    Source: Howard 2018, "Training Imagenet in 3 hours for 25 minutes" (DAWNBench), progressive resizing.
    """
    growing = recipe.full_size_at * recipe.epochs
    if epoch >= growing or recipe.start_size == 1:  # before rounding: the full size may be no multiple of 8
        return full_px
    share = recipe.start_size + (1 - recipe.start_size) * epoch / growing
    step_px = SIDE_STEP_PX * max(1, round(full_px / (SIDE_STEP_PX * SIDE_STEPS)))
    return min(full_px, max(SIDE_STEP_PX, step_px * round(share * full_px / step_px)))
