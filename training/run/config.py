"""RunConfig: the settings of a run, checked, so that nothing behind the command line needs argparse."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import models
from core.errors import InputError, check_threads
from training.compute.rules import GpuOptions
from training.data.listing import PackOptions
from training.recipe import Recipe

DEFAULT_GPU_OPTIONS = GpuOptions()


@dataclass(frozen=True)
class RunConfig:
    """The settings of a run, from the command line."""

    source: str
    """A pack, or a data set, which is packed into `out`/pack first."""
    out: Path
    recipe: Recipe
    archs: tuple[str, ...]
    pack_options: PackOptions
    size_px: int | None = None
    """The side of the network's input where it was stated: that of a source that is a pack must be the same."""
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
    """Another run, whose mode is used in place of `precision`, `memory_format` and `gpu`."""
    gpu: GpuOptions = DEFAULT_GPU_OPTIONS
    threads: int | None = None
    as_json: bool = False

    def __post_init__(self) -> None:
        if len(set(self.archs)) < len(self.archs):
            raise InputError("--models names an architecture twice: name each once")
        for arch in self.archs:
            models.check_name(arch)
        check_threads(self.threads)
        self._refuse_mode_flags()

    @property
    def pack_path(self) -> Path:
        """The pack to train on: the source itself, or the pack that is made from it."""
        return Path(self.source) if (Path(self.source) / "pack.json").is_file() else self.out / "pack"

    @property
    def mode_flags(self) -> dict[str, tuple[str, str | bool]]:
        """{each flag that decides a part of the mode and was given: (the field of ComputeMode, its value)}."""
        values = {"precision": self.precision, "memory_format": self.memory_format, **vars(self.gpu)}
        given = {name: value for name, value in values.items() if value not in (None, "auto", False)}
        field_of = {"compile": "compiled", "capture": "captured"}
        meaning = {"yes": True, "no": False}
        return {
            f"--{name.replace('_', '-')}": (field_of.get(name, name), meaning.get(value, value))
            for name, value in given.items()
        }

    def _refuse_mode_flags(self) -> None:
        """Refuse flags that `mode_from` would silently overrule: it takes the whole mode of the other run."""
        if self.mode_from and self.mode_flags:
            flag = next(iter(self.mode_flags))
            raise InputError(f"{flag} does not go with --mode-from, which takes the whole mode of a run: leave out one")

    def recipe_of(self, arch: str) -> Recipe:
        """Return the recipe of one network; a network of fixed input size starts at full size."""
        return replace(self.recipe, start_size=1.0) if models.has_fixed_size(arch) else self.recipe
