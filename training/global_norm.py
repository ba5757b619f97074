"""Batch normalisation over the whole batch of several processes, on any device.

torch's SyncBatchNorm knows GPUs only, and timm's layers, which join the activation to the normalisation, not at all.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class _Sum(torch.autograd.Function):
    """The sum over processes; each one's gradient is that of the sum of all their losses."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total


class GpuNorm(nn.SyncBatchNorm):
    """torch's, with the activation that timm joins to the normalisation."""

    def forward(self, input: Tensor) -> Tensor:
        """Map (n, C, h, w) to the same shape."""
        return _activate(self, super().forward(input))


class GlobalNorm(nn.BatchNorm2d):
    """What a BatchNorm2d of one process would do with the batches of all."""

    def forward(self, input: Tensor) -> Tensor:
        """Map (n, C, h, w) to the same shape."""
        return _activate(self, self._normalise(input) if self.training else super().forward(input))

    def _normalise(self, x: Tensor) -> Tensor:
        """Add up every process's moments, in float64, as gradients do on the way back."""
        n, channels = x.numel() // x.shape[1], x.shape[1]
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        var, mean = (moment.double() for moment in torch.var_mean(wide, (0, 2, 3), correction=0))
        count = torch.full((1,), float(n), dtype=torch.float64)
        moments: Tensor = _Sum.apply(torch.cat([n * mean, n * (var + mean**2), count]))
        total = moments[-1].detach()
        mean = moments[:channels] / total
        var = (moments[channels:-1] / total - mean**2).clamp_min(0)
        self._remember(mean.detach(), var.detach() * total / (total - 1))
        scale = (var + self.eps).rsqrt()
        if self.affine:
            scale = scale * self.weight
        shift = -mean * scale + (self.bias if self.affine else 0)
        scale, shift = (value.to(wide.dtype).view(1, -1, 1, 1) for value in (scale, shift))
        normal: Tensor = wide * scale + shift
        return normal.to(x.dtype)

    def _remember(self, mean: Tensor, var: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_(var.to(self.running_var.dtype), share)


def globalise(network: nn.Module, device: str) -> nn.Module:
    """Replace every BatchNorm2d in `network`; the names of its weights stay."""
    kind = GpuNorm if device.startswith("cuda") else GlobalNorm
    for name, child in network.named_children():
        if isinstance(child, nn.BatchNorm2d):
            norm = kind(child.num_features, child.eps, child.momentum, child.affine, child.track_running_stats)
            norm._parameters, norm._buffers, norm._modules = child._parameters, child._buffers, child._modules
            setattr(network, name, norm.train(child.training))
        else:
            globalise(child, device)
    return network


def _activate(norm: nn.Module, x: Tensor) -> Tensor:
    """Carry out what is joined to a normalisation: drop and activation of timm's BatchNormAct2d."""
    for joined in norm.children():
        x = joined(x)
    return x
