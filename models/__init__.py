"""The architectures by name: our own, one file each, and any timm classifier as `timm/<name>`."""

from __future__ import annotations

import difflib

import torch
from torch import nn

from core.errors import InputError
from core.plugins import load_plugin, names_in
from models import architectures

PARTS = ("MEAN", "STD", "build")
"""The parts that the module of each architecture has."""


def names() -> list[str]:
    """Return the names of our own architectures, which are those of their files."""
    return names_in(architectures.__path__)


def build(
    arch: str,
    classes: int,
    *,
    size_px: int | None = None,
    dropout: float | None = None,
    pretrained: bool | str = False,
) -> nn.Module:
    """Build a network that maps normalized float32 (n, 3, S, S) to logits (n, classes).

    size_px: the input size, for networks that are built for one size. pretrained: start a timm network from timm's
    weights, or from those of the file that it names. Raises InputError with the nearest names for an unknown one.
    """
    if arch.startswith("timm/"):
        from models import timm_backbone

        name = arch.removeprefix("timm/")
        return timm_backbone.build(name, classes, size_px=size_px, dropout=dropout, pretrained=pretrained)
    check_name(arch)
    if pretrained:
        raise InputError(f"{arch} has no pretrained weights: drop --pretrained, or name timm/<name>")
    network: nn.Module = load_plugin(architectures.__name__, arch, PARTS).build(classes, dropout)
    return network


def normalization(arch: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean and standard deviation per RGB channel, of values in 0..1, that `arch` expects."""
    if arch.startswith("timm/"):
        from models import timm_backbone

        return timm_backbone.normalization(arch.removeprefix("timm/"))
    check_name(arch)
    module = load_plugin(architectures.__name__, arch, PARTS)
    return module.MEAN, module.STD


def has_fixed_size(arch: str) -> bool:
    """Tell whether a network takes only images of the size that it is built for, as most vision transformers do."""
    if not arch.startswith("timm/"):
        return False
    from models import timm_backbone

    return timm_backbone.has_fixed_size(arch.removeprefix("timm/"))


def check_size(arch: str, classes: int, size_px: int, smallest_px: int) -> None:
    """Raise InputError when a network cannot compute on images of `size_px` or of `smallest_px`."""
    network = build(arch, classes, size_px=size_px).eval()
    for side_px in (size_px, smallest_px):
        try:
            with torch.inference_mode():
                network(torch.zeros(2, 3, side_px, side_px))
        except Exception as error:  # networks refuse a size in different ways: assertions, shapes, divisions
            reason = " ".join(str(error).split())[:120] or type(error).__name__
            hint = "give another --size" if side_px == size_px else "give --start-size 1, or another --size"
            raise InputError(f"{arch} cannot take images of {side_px} px ({reason}): {hint}") from None


def check_name(arch: str) -> None:
    """Raise InputError with the nearest names when there is no such architecture."""
    if arch.startswith("timm/"):
        from models import timm_backbone

        timm_backbone.check_name(arch.removeprefix("timm/"))
    elif arch not in names():
        near = difflib.get_close_matches(arch, names(), n=3, cutoff=0.3) or names()
        raise InputError(f"there is no architecture {arch!r}: did you mean {' or '.join(near)}, or timm/<name>?")
