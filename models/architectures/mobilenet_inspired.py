"""A MobileNet-inspired network: depthwise-separable blocks with ReLU6, 3.2 M parameters at 4 classes.

Source: Howard et al. 2017, "MobileNets", table 1 at width 1.0; the shortcuts are ours (see `Separable`).
"""

from __future__ import annotations

from torch import Tensor, nn

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

LAYOUT = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))
"""Output channels and stride of each block."""


def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """Return convolution, batch normalisation and ReLU6."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return [conv, nn.BatchNorm2d(outputs), nn.ReLU6(inplace=True)]


class Separable(nn.Module):
    """A 3x3 convolution per channel, then a 1x1 over channels; a shortcut where the shape does not change."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *convolution(inputs, inputs, 3, stride, groups=inputs), *convolution(inputs, outputs, 1)
        )
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, inputs, h, w) to (n, outputs, h / stride, w / stride)."""
        y: Tensor = self.layers(x)
        return x + y if self.shortcut else y


def build(classes: int, dropout: float | None = None) -> nn.Module:
    """Build the network; dropout stands before the last layer, 0.4 unless told."""
    blocks: list[nn.Module] = convolution(3, 32, 3, 2)
    inputs = 32
    for outputs, stride in LAYOUT:
        blocks.append(Separable(inputs, outputs, stride))
        inputs = outputs
    head = nn.Linear(inputs, classes)
    nn.init.normal_(head.weight, std=0.01)
    nn.init.zeros_(head.bias)
    p = 0.4 if dropout is None else dropout
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(1), nn.Dropout(p), head)
