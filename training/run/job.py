"""A job: the settings of the training of one architecture, and the folder of its results."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import models
from core.data.pack import Pack
from training.augment import gpu
from training.augment.prepare import open_preparer
from training.batches import Batches
from training.compute.mode import Compute
from training.recipe import Recipe
from training.state import TrainState
from training.step import NetworkSpec, Objective, initialize
from training.teacher import Teacher

log = logging.getLogger(__name__)

FEW_STEPS = 200
"""With fewer a network hardly learns. 210 photographs, squeezenet: 36% of test after 40 steps, 57% after 240."""


@dataclass(frozen=True)
class TrainJob:
    """The training of one architecture on one pack."""

    pack: Pack
    arch: str
    recipe: Recipe
    compute: Compute
    folder: Path
    seed: int = 0
    pretrained: bool | str = False
    teacher: Path | None = None
    augment_on: str = "host"
    abstain_risk: float = 0.05
    commit: str = "unknown"
    as_json: bool = False

    @property
    def is_main(self) -> bool:
        """Tell whether this process writes the files of the job."""
        return self.compute.dist.is_main

    @property
    def is_finished(self) -> bool:
        """Tell whether the job is done: metrics.json exists, which is written last."""
        return (self.folder / "metrics.json").is_file()

    @property
    def state_folder(self) -> Path:
        """The folder of the saved state."""
        return self.folder / "last"

    def start_or_resume(self) -> tuple[TrainState, Objective]:
        """Return the saved state, or without one the state before the first step, and the objective of the steps."""
        spec = NetworkSpec(self.arch, len(self.pack.classes), self.pack.geometry.size_px, self.pretrained)
        teacher = Teacher(self.teacher, self.pack.classes, self.compute) if self.teacher else None
        state, objective = initialize(spec, self.recipe, self.compute, self.seed, teacher)
        state.load(self.state_folder)
        return state, objective

    def batches(self) -> Batches:
        """Return the batches of this process."""
        mean, _ = models.normalization(self.arch)
        apply = self.compute.mode.compile_or_eager(gpu.augment)
        preparer = open_preparer(self.pack, mean, self.compute.device, self.augment_on, apply)
        batches = Batches(self.pack, self.recipe, self.seed, preparer, self.compute.dist)
        if self.is_main:
            log.info(f"{self.arch}: images are {preparer.description}")
            steps = self.recipe.epochs * batches.steps
            if steps < FEW_STEPS:
                log.warning(
                    f"{self.arch}: only {steps} steps ({self.recipe.epochs} epochs of {batches.steps}): "
                    "take more --epochs, or pretrained weights (docs/recipes.md)"
                )
        return batches
