"""Any timm classifier as `timm/<name>`, with its own normalization and, on request, its pretrained weights."""

from __future__ import annotations

import difflib
import logging
from pathlib import Path
from typing import Any

import timm
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import load_state_dict
from torch import nn

from core.errors import InputError
from models.layers import start_near_zero

PerChannel = tuple[float, ...]


def normalization(name: str) -> tuple[PerChannel, PerChannel]:
    """Return the mean and standard deviation per RGB channel that timm's weights of `name` were trained with."""
    check_name(name)
    config = timm.get_pretrained_cfg(name)
    if config is None:
        return IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
    return config.mean, config.std


def has_fixed_size(name: str) -> bool:
    """Tell whether timm builds `name` for one input size, its parameter `img_size`."""
    config = timm.get_pretrained_cfg(name)
    return config is not None and config.fixed_input_size


def build(
    name: str,
    classes: int,
    size_px: int | None = None,
    dropout: float | None = None,
    pretrained: bool | str = False,
) -> nn.Module:
    """Build `name` with a new head and dropout before it. `pretrained` may be the path of a weights file.

    size_px: the input size of a network that is built for one (default: timm's own). Raises InputError when the name is
    unknown, the network cannot have this size, the file does not fit, or timm's hub cannot be reached.
    """
    check_name(name)
    overlay = None  # timm's own addresses of the weights
    if isinstance(pretrained, str):
        if not Path(pretrained).is_file():
            raise InputError(f"{pretrained} does not exist: give a weights file of {name}, or --pretrained alone")
        overlay = {"file": pretrained, "hf_hub_id": None, "url": None}
    size: dict[str, Any] = {"img_size": size_px} if size_px and has_fixed_size(name) else {}
    logging.getLogger("huggingface_hub").setLevel(logging.CRITICAL)
    try:
        network: nn.Module = timm.create_model(
            name,
            pretrained=bool(pretrained),
            pretrained_cfg_overlay=overlay,
            num_classes=classes,
            drop_rate=0.0 if dropout is None else dropout,
            **size,
        )
    except Exception as error:  # the hub's, torch's and timm's exceptions share no base
        raise InputError(_failure_message(name, pretrained, error)) from None
    if isinstance(pretrained, str):
        _check_fit(name, network, pretrained)
    _start_head_near_zero(network)
    return network


def _start_head_near_zero(network: nn.Module) -> None:
    """Start the head near zero: as timm initializes it, the first loss over 5 classes is 6 instead of 1.6."""
    head = network.get_classifier()  # type: ignore[operator]
    # a distilled transformer has two heads
    for part in head if isinstance(head, tuple) else (head,):
        for layer in part.modules():
            if isinstance(layer, (nn.Linear, nn.Conv2d)):
                start_near_zero(layer)


def _check_fit(name: str, network: nn.Module, file: str) -> None:
    """Raise InputError when the file lacks any weights but the head's; timm itself would load whatever it finds."""
    head = timm.get_pretrained_cfg_value(name, "classifier") or ()
    heads = (head,) if isinstance(head, str) else tuple(head)
    stored = load_state_dict(file, use_ema=False)
    missing = []
    for key in network.state_dict():
        # old files do not count the batches that normalization has seen, and nothing depends on it
        is_optional = key.startswith(heads) or key.endswith("num_batches_tracked")
        if key not in stored and not is_optional:
            missing.append(key)
    if missing:
        reason = KeyError(f"it lacks {missing[0]} and {len(missing) - 1} more")
        raise InputError(_failure_message(name, file, reason))


def check_name(name: str) -> None:
    """Raise InputError with the nearest names when timm has no `name`."""
    if not timm.is_model(name.split(".")[0]):
        near = difflib.get_close_matches(name, timm.list_models(), n=3, cutoff=0.3)
        meant = f"did you mean {' or '.join(f'timm/{n}' for n in near)}?" if near else "see timm.list_models()"
        raise InputError(f"there is no architecture 'timm/{name}': {meant}")


def _failure_message(name: str, pretrained: bool | str, error: Exception) -> str:
    """Return the sentence about a network that cannot be built or loaded, on one line."""
    reason = " ".join(str(error).split())[:120] or type(error).__name__
    if isinstance(pretrained, str):
        return f"{pretrained} does not hold weights of {name} ({reason}): give the file timm publishes for it"
    if pretrained:
        return f"the weights of timm/{name} cannot be fetched ({reason}): connect, or give a file as --pretrained FILE"
    return f"timm/{name} cannot be built ({reason}): choose another backbone, or another --size"
