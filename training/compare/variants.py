"""Variants of a recipe: with some fields changed, or for an ablation with each single change of another recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from core.errors import InputError
from training import recipes
from training.recipe import Recipe, as_text, overridable

CHANGES: dict[str, tuple[str, ...]] = {
    "optimizer": ("optimizer",),
    "rate": ("learning_rate",),
    "batch": ("batch",),
    "decay": ("weight_decay", "decay_norm_bias"),
    "schedule": (
        "schedule", "min_learning_rate", "warmup_epochs", "restart_epochs", "restart_factor", "plateau_factor",
        "plateau_patience",
    ),
    "stopping": ("stop_metric", "stop_patience"),
    "smoothing": ("label_smoothing",),
    "clipping": ("clip_norm",),
    "dropout": ("dropout",),
    "geometry": (
        "flip_p", "rotation_deg", "translate", "scale_min", "scale_max", "perspective", "perspective_p",
    ),
    "colour": ("brightness", "contrast", "saturation", "hue", "grayscale_p"),
    "erasing": ("erase_p", "erase_area_min", "erase_area_max"),
    "size": ("start_size", "full_size_at"),
    "averaging": ("average_decay",),
    "mixing": ("mixup_alpha", "cutmix_alpha", "mix_p"),
    "balance": ("balanced",),
    "distillation": ("distill", "distill_temperature"),
}  # fmt: skip
"""The changes of an ablation: fields that only make sense together. `name` and `epochs` are no change."""
TEACHER = "teacher"
"""The setting of a variant that is no field of a recipe: the checkpoint to distill from."""


@dataclass(frozen=True)
class Variant:
    """The name of a recipe, and the fields to set in it, as the command line writes them."""

    name: str
    recipe: str
    fields: tuple[tuple[str, str], ...] = ()

    @property
    def folder(self) -> str:
        """The folder of the variant: its name, without characters that mean something to a shell or a file system."""
        return self.name.replace(":", "+").replace("=", "-").replace(",", "+").replace(" ", "").replace("/", "_")

    def flags(self, epochs: int | None) -> list[str]:
        """Return the flags of `python -m training train` for this variant."""
        own = dict(self.fields)
        if epochs is not None:
            own = {"epochs": str(epochs)} | own
        return ["--recipe", self.recipe, *(word for name, text in own.items() for word in (f"--{name}", text))]

    def resolve(self) -> Recipe:
        """Return the recipe. Raises InputError for an unknown recipe or field, or a bad value."""
        return recipes.load_recipe(self.recipe).with_overrides({k: v for k, v in self.fields if k != TEACHER})


def parse_variant(text: str) -> Variant:
    """Parse `edge`, `edge:batch=16,schedule=one_cycle` or `edge:teacher=FILE`. Raises InputError in one sentence."""
    recipe, colon, rest = text.partition(":")
    pairs = [part.partition("=") for part in rest.split(",")] if colon else []
    known = [TEACHER, *(item.name for item in overridable())]
    for name, equals, value in pairs:
        if name not in known or not equals or not value:
            raise InputError(f"{text!r} is not RECIPE:field=value,...: {name!r} is {_complaint(name, known)}")
    variant = Variant(text, recipe, tuple((name, value) for name, _, value in pairs))
    variant.resolve()
    return variant


def ablations(start: str, end: str, archs: Sequence[str]) -> list[Variant]:
    """Return `start`, and `start` with each single change that `end` makes for one of these architectures."""
    first, last = recipes.load_recipe(start), recipes.load_recipe(end)
    before, after = first.as_json(), last.as_json()
    # the dropout of an architecture that is not trained makes no difference
    same_dropout = all(first.dropout_of(arch) == last.dropout_of(arch) for arch in archs)
    variants = [Variant(start, start)]
    for change, names in CHANGES.items():
        differing = tuple((name, as_text(after[name])) for name in names if before[name] != after[name])
        if differing and not (change == "dropout" and same_dropout):
            variants.append(Variant(f"{start} + {change} of {end}", start, differing))
    return variants


def _complaint(name: str, known: list[str]) -> str:
    return "given no value" if name in known else "no field of a recipe (--help of train lists them)"
