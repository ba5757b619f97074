"""Layers that several architectures share."""

from __future__ import annotations

from torch import nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def conv_bn(
    inputs: int, outputs: int, kernel: int, stride: int = 1, *, groups: int = 1, activation: nn.Module | None = None
) -> list[nn.Module]:
    """Return a convolution with Kaiming weights, batch normalization, and the activation where one is given."""
    # no bias: the normalization that follows would subtract it
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return [conv, nn.BatchNorm2d(outputs), *([activation] if activation is not None else [])]


def start_near_zero(layer: nn.Linear | nn.Conv2d) -> None:
    """Draw small weights for a classifying layer, so that the first predictions are nearly uniform."""
    nn.init.normal_(layer.weight, std=0.01)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def classifier_head(channels: int, classes: int, dropout: float) -> list[nn.Module]:
    """Return global pooling, dropout and a linear layer: (n, channels, h, w) to (n, classes)."""
    head = nn.Linear(channels, classes)
    start_near_zero(head)
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(1), nn.Dropout(dropout), head]
