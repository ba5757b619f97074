"""Batch normalization over the whole batch of several GPUs."""

from __future__ import annotations

from timm.layers.norm_act import convert_sync_batchnorm
from torch import nn


def synchronize_batch_norm(network: nn.Module) -> nn.Module:
    """Return `network` with every batch normalization replaced by one over all processes; the names of weights stay.

    timm's conversion is used, because torch's silently drops the activation that timm joins to a normalization.
    """
    converted: nn.Module = convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
    return converted


def has_batch_norm(network: nn.Module) -> bool:
    """Tell whether `network` has a batch normalization of any kind."""
    return any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in network.modules())
