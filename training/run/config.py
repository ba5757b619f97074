"""The settings of a run, from the command line."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import models
from core.errors import InputError
from training.compute.rules import GpuOptions
from training.data.listing import PackOptions
from training.recipe import Recipe

DEFAULT_GPU_OPTIONS = GpuOptions()
MAX_THREADS = 1024


@dataclass(frozen=True)
class RunConfig:
    """The settings of a run, from the command line."""

    source: str
    """A pack, or a data set, which is packed into `out`/pack first."""
    out: Path
    recipe: Recipe
    archs: tuple[str, ...]
    pack_options: PackOptions
    seed: int = 0
    resume: bool = False
    pretrained: bool | str = False
    teacher: Path | None = None
    abstain_risk: float = 0.05
    device: str = "cpu"
    augment_on: str = "auto"
    precision: str | None = None
    memory_format: str | None = None
    mode_from: Path | None = None
    """Another run, whose precision and memory format are used."""
    gpu: GpuOptions = DEFAULT_GPU_OPTIONS
    threads: int | None = None
    as_json: bool = False

    def __post_init__(self) -> None:
        if len(set(self.archs)) < len(self.archs):
            raise InputError("--models names an architecture twice: name each once")
        for arch in self.archs:
            models.check_name(arch)
        if self.threads is not None:
            check_threads(self.threads)

    @property
    def pack_path(self) -> Path:
        """The pack to train on: the source itself, or the pack that is made from it."""
        return Path(self.source) if (Path(self.source) / "pack.json").is_file() else self.out / "pack"

    def recipe_of(self, arch: str) -> Recipe:
        """Return the recipe of one network; a network of fixed input size starts at full size."""
        return replace(self.recipe, start_size=1.0) if models.has_fixed_size(arch) else self.recipe


def check_threads(threads: int) -> None:
    """Raise InputError for a number of threads that no machine can start."""
    if not 1 <= threads <= MAX_THREADS:
        raise InputError(f"threads is {threads}: give 1 to {MAX_THREADS}")
