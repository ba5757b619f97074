"""A MobileNet-inspired network: depthwise-separable blocks with ReLU6, 3.2 M parameters at 4 classes.

Source: Howard et al. 2017, "MobileNets", table 1 at width 1.0; the shortcuts are ours (see `Separable`).
"""

from __future__ import annotations

from torch import Tensor, nn

from models.layers import IMAGENET_MEAN, IMAGENET_STD, classifier_head, conv_bn

MEAN, STD = IMAGENET_MEAN, IMAGENET_STD

LAYOUT = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))
"""Output channels and stride of each block."""


class Separable(nn.Module):
    """A 3x3 convolution per channel, then a 1x1 over channels; a shortcut where the shape does not change."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *conv_bn(inputs, inputs, 3, stride, groups=inputs, activation=nn.ReLU6(inplace=True)),
            *conv_bn(inputs, outputs, 1, activation=nn.ReLU6(inplace=True)),
        )
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, inputs, h, w) to (n, outputs, h / stride, w / stride)."""
        y: Tensor = self.layers(x)
        return x + y if self.shortcut else y


def build(classes: int, dropout: float | None = None) -> nn.Module:
    """Build the network. dropout: before the last layer; None, where no recipe gives it, stands for 0.4."""
    layers = conv_bn(3, 32, 3, 2, activation=nn.ReLU6(inplace=True))
    inputs = 32
    for outputs, stride in LAYOUT:
        layers.append(Separable(inputs, outputs, stride))
        inputs = outputs
    return nn.Sequential(*layers, *classifier_head(inputs, classes, 0.4 if dropout is None else dropout))
