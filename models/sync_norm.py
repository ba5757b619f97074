"""Batch normalisation over the whole batch of several GPUs, and a way to tell which networks have it."""

from __future__ import annotations

from timm.layers.norm_act import convert_sync_batchnorm
from torch import nn


def synchronise(network: nn.Module) -> nn.Module:
    """Return `network` with every batch normalisation replaced by one over all processes; the weights' names stay.

    By timm's conversion: torch's own drops the activation that timm joins to a normalisation, without a word.
    """
    converted: nn.Module = convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
    return converted


def has_batch_norm(network: nn.Module) -> bool:
    """Say whether `network` has a batch normalisation of any kind."""
    return any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in network.modules())
