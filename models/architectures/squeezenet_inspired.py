"""A SqueezeNet-inspired network: fire modules, 0.7 M parameters at 4 classes.

Source: Iandola et al. 2016, "SqueezeNet", version 1.1. From a plain start at a rate of 1e-3 that network stays at
chance. Three changes make it learn: no ReLU after the last convolution (it dies, and its gradient with it), Kaiming
weights, and batch normalization in the fire modules (folded into the convolutions at export, so it costs nothing then).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.layers import IMAGENET_MEAN, IMAGENET_STD, conv_bn, start_near_zero

MEAN, STD = IMAGENET_MEAN, IMAGENET_STD

LAYOUT = ((16, 64), (16, 64), None, (32, 128), (32, 128), None, (48, 192), (48, 192), (64, 256), (64, 256))
"""Squeezed channels and channels of each expansion of a fire module; None is a pool that halves the picture."""


def conv_bn_relu(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Return convolution, batch normalization and ReLU."""
    return nn.Sequential(*conv_bn(inputs, outputs, kernel, stride, activation=nn.ReLU(inplace=True)))


class Fire(nn.Module):
    """Squeeze to few channels by 1x1, expand by 1x1 and 3x3 side by side; a shortcut where the shape is the same."""

    def __init__(self, inputs: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = conv_bn_relu(inputs, squeezed, 1)
        self.expand1 = conv_bn_relu(squeezed, expanded, 1)
        self.expand3 = conv_bn_relu(squeezed, expanded, 3)
        self.shortcut = inputs == 2 * expanded

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, inputs, h, w) to (n, 2 * expanded, h, w)."""
        squeezed = self.squeeze(x)
        y = torch.cat([self.expand1(squeezed), self.expand3(squeezed)], 1)
        return x + y if self.shortcut else y


def build(classes: int, dropout: float | None = None) -> nn.Module:
    """Build the network. dropout: before the last layer; None, where no recipe gives it, stands for 0.5."""
    layers: list[nn.Module] = [conv_bn_relu(3, 64, 3, 2), nn.MaxPool2d(3, 2, 1)]
    inputs = 64
    for item in LAYOUT:
        if item is None:
            layers.append(nn.MaxPool2d(3, 2, 1))
        else:
            layers.append(Fire(inputs, *item))
            inputs = 2 * item[1]
    head = nn.Conv2d(inputs, classes, 1)
    start_near_zero(head)
    p = 0.5 if dropout is None else dropout
    return nn.Sequential(*layers, nn.Dropout(p), head, nn.AdaptiveAvgPool2d(1), nn.Flatten(1))
