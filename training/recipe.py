"""The recipe: a frozen object with every setting of a training, and how the command line changes it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

from core.errors import InputError


def _number(low: float, high: float, help: str) -> Any:
    return field(metadata={"low": low, "high": high, "help": help})


def _word(*choices: str, help: str) -> Any:
    return field(metadata={"choices": choices, "help": help})


def _optional(default: float | int | bool, low: float, high: float, help: str) -> Any:
    """Return a field with a default that has no effect unless another field, or --teacher, turns it on.

    A new field must be of this kind, so that recipes and runs from before it keep their meaning.
    """
    return field(default=default, metadata={"low": low, "high": high, "help": help})


DEFAULT = "default"
"""The key, in a mapping by architecture, of the value for all architectures that it does not name."""
MAPPING = "dict[str, float]"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Every setting of a training except data, architecture and seed.

    Label smoothing is PyTorch's: a share of the target is spread over *all* classes, the true one included. So 0.1 over
    4 classes gives 0.925 and 3 x 0.025; 0.9 and 3 x 0.033, which is often quoted, is another definition.
    Source: torch.nn.CrossEntropyLoss, "label_smoothing"; Szegedy et al. 2015, section 7.
    """

    name: str = field(metadata={"help": "the recipe that the numbers come from"})
    epochs: int = _number(1, 10_000, "passes over the training rows")
    batch: int = _number(2, 65_536, "images per step, over all processes")
    optimizer: str = _word("adam", "adamw", "sgd", help="adam couples weight decay into the gradient, adamw does not")
    learning_rate: float = _number(1e-9, 100, "the highest learning rate")
    min_learning_rate: float = _number(0, 100, "the learning rate at the end of a schedule")
    weight_decay: float = _number(0, 10, "weight decay per step, times the learning rate")
    decay_norm_bias: bool = field(default=True, metadata={"help": "decay normalization and bias too, as PyTorch does"})
    schedule: str = _word("plateau", "restarts", "one_cycle", "constant", help="schedule of the learning rate")
    warmup_epochs: float = _optional(0.0, 0, 1000, "linear warm-up from a hundredth of the rate (one_cycle, constant)")
    restart_epochs: float = _optional(10.0, 0.01, 10_000, "restarts: T_0, the length of the first cycle in epochs")
    restart_factor: int = _optional(2, 1, 100, "restarts: T_mult, how much longer each next cycle is")
    plateau_factor: float = _optional(0.5, 1e-6, 0.999999, "plateau: factor of the learning rate")
    plateau_patience: int = _optional(
        5, 0, 10_000, "plateau: epochs without a lower val loss before the rate is lowered"
    )
    stop_metric: str = _word("loss", "accuracy", help="the metric on val for early stopping")
    stop_patience: int = _number(0, 10_000, "epochs without a better value before training stops early; 0: never")
    label_smoothing: float = _number(0, 0.999999, "share of the target spread over all classes")
    clip_norm: float = _number(0, 1e9, "largest norm of the gradient; 0: not clipped")
    dropout: dict[str, float] = field(
        metadata={
            "low": 0,
            "high": 0.99,
            "help": "dropout of every network, or NAME=0.5+default=0.2, default for the others",
        }
    )
    flip_p: float = _number(0, 1, "chance of a horizontal flip")
    rotation_deg: float = _number(0, 180, "rotation by up to this, either way")
    brightness: float = _number(0, 1, "color jitter: largest change of the brightness, as a share")
    contrast: float = _number(0, 1, "color jitter: largest change of the contrast, as a share")
    saturation: float = _number(0, 1, "color jitter: largest change of the saturation, as a share")
    hue: float = _number(0, 0.5, "color jitter: largest shift of the hue, as a share of the color circle")
    translate: float = _number(0, 1, "shift by up to this share of the side, either way")
    scale_min: float = _number(0.01, 1, "smallest magnification")
    scale_max: float = _number(1, 100, "largest magnification")
    perspective: float = _number(0, 1, "distortion: corners move by up to half this share of the side")
    perspective_p: float = _number(0, 1, "chance of a perspective distortion")
    grayscale_p: float = _number(0, 1, "chance of conversion to gray")
    erase_p: float = _number(0, 1, "chance that a rectangle is erased to the mean color")
    erase_area_min: float = _number(0.0001, 1, "smallest share of the area erased")
    erase_area_max: float = _number(0.0001, 1, "largest share of the area erased")
    average_decay: float = _optional(
        0.0, 0, 0.999999, "decay per step of the averaged weights (EMA), which become the checkpoint; 0: none"
    )
    mixup_alpha: float = _optional(0.0, 0, 100, "Beta parameter of mixup; 0: no mixup")
    cutmix_alpha: float = _optional(0.0, 0, 100, "Beta parameter of cutmix; 0: no cutmix")
    mix_p: float = _optional(
        1.0, 0, 1, "chance that a batch is mixed, by mixup or cutmix with equal chances if both are on"
    )
    distill: float = _optional(0.5, 0, 1, "with --teacher: weight of the distillation loss")
    distill_temperature: float = _optional(2.0, 0.1, 100, "with --teacher: temperature of the distillation loss")
    start_size: float = _optional(1.0, 0.25, 1, "side of the first epoch's images, about this share of the pack's")
    full_size_at: float = _optional(0.5, 0, 1, "share of the epochs after which images are as large as the pack's")
    balanced: bool = field(default=False, metadata={"help": "draw each class equally often"})

    def __post_init__(self) -> None:
        for item in fields(self):
            if not _fits(item, value := getattr(self, item.name)):
                raise _refusal(item, value)
        # recipes with the same meaning must be equal, so architectures with the default dropout are not listed
        default = self.dropout[DEFAULT]
        own = {name: value for name, value in self.dropout.items() if value != default}
        # a frozen dataclass is set like this only while it is made
        object.__setattr__(self, "dropout", own | {DEFAULT: default})
        if self.min_learning_rate > self.learning_rate:
            raise InputError(f"min_learning_rate {self.min_learning_rate} is above learning_rate {self.learning_rate}")
        if self.erase_area_min > self.erase_area_max:
            raise InputError(f"erase_area_min {self.erase_area_min} is above erase_area_max {self.erase_area_max}")

    def dropout_of(self, arch: str) -> float:
        """Return the dropout of an architecture: its own, or else the default."""
        return self.dropout.get(arch, self.dropout[DEFAULT])

    def as_json(self) -> dict[str, Any]:
        """Return every field."""
        return dataclasses.asdict(self)

    def scaled(self, epochs: int) -> Recipe:
        """Return the recipe for another number of epochs, with T_0, warm-up and both patiences in proportion."""
        share = epochs / self.epochs
        return dataclasses.replace(
            self,
            epochs=epochs,
            restart_epochs=self.restart_epochs * share,
            warmup_epochs=self.warmup_epochs * share,
            plateau_patience=round(self.plateau_patience * share),
            stop_patience=math.ceil(self.stop_patience * share),
        )

    def with_overrides(self, texts: dict[str, str]) -> Recipe:
        """Return a copy with fields set from command-line texts. Raises InputError in one sentence."""
        known = {item.name: item for item in fields(self)}
        return dataclasses.replace(self, **{name: _parse(known[name], text) for name, text in texts.items()})


def overridable() -> list[dataclasses.Field[Any]]:
    """Return the fields that the command line may set."""
    return [item for item in fields(Recipe) if item.name != "name"]


def _fits(item: dataclasses.Field[Any], value: Any) -> bool:
    """Tell whether `value` is of the field's type and in its range."""
    low = item.metadata.get("low", -math.inf)
    high = item.metadata.get("high", math.inf)
    if item.type == MAPPING:
        if not isinstance(value, dict) or DEFAULT not in value:
            return False
        return all(type(number) in (int, float) and low <= number <= high for number in value.values())
    kinds: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "str": (str,), "bool": (bool,)}
    if not isinstance(value, kinds[str(item.type)]):
        return False
    if isinstance(value, bool) and item.type != "bool":  # True is an int to Python, but no number of epochs
        return False
    if choices := item.metadata.get("choices"):
        return value in choices
    return isinstance(value, str) or low <= value <= high  # false for NaN


def _refusal(item: dataclasses.Field[Any], value: Any) -> InputError:
    return InputError(f"{item.name} is {value!r}: give {_allowed_values(item)}")


def _parse(item: dataclasses.Field[Any], text: str) -> Any:
    try:
        if item.type == "bool":
            return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[text.lower()]
        parsers: dict[str, Callable[[str], Any]] = {"int": int, "float": float, "str": str, MAPPING: _parse_mapping}
        value = parsers[str(item.type)](text)
    except (ValueError, KeyError):
        raise _refusal(item, text) from None
    if not _fits(item, value):
        raise _refusal(item, text)
    return value


def _parse_mapping(text: str) -> dict[str, float]:
    """Parse `0.3`, for every network, or `resnet_inspired=0.5+default=0.2`, where `default` is for all others."""
    if "=" not in text:
        return {DEFAULT: float(text)}
    pairs = [part.partition("=") for part in text.split("+")]  # commas already part the fields of a variant
    if len({name for name, _, _ in pairs}) < len(pairs):
        raise ValueError("a name stands twice")
    return {name: float(number) for name, _, number in pairs}  # ValueError for a number that is none


def as_text(value: str | float | bool | dict[str, float]) -> str:
    """Return the value of a field as the command line takes it."""
    return "+".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else str(value)


def upgrade_schema_1(body: dict[str, Any]) -> dict[str, Any]:
    """Return the recipe of a run.json of schema 1, which has a dropout key for each architecture, in today's form."""
    rest = {name: value for name, value in body.items() if not name.startswith("dropout_")}
    own = {f"{name}_inspired": body[f"dropout_{name}"] for name in ("mobilenet", "squeezenet", "resnet")}
    recipe = Recipe(**rest, dropout=own | {DEFAULT: body["dropout_other"]})
    return recipe.as_json()


def _allowed_values(item: dataclasses.Field[Any]) -> str:
    """Return the values that a field may have, in words."""
    if item.type == "bool":
        return "true or false"
    if choices := item.metadata.get("choices"):
        return f"one of {', '.join(choices)}"
    if item.type == MAPPING:
        return "a number from 0 to 0.99 for every network, or one for each as in resnet_inspired=0.5+default=0.2"
    what = "a whole number" if item.type == "int" else "a number"
    return f"{what} from {item.metadata['low']:g} to {item.metadata['high']:g}" if "low" in item.metadata else "a text"
