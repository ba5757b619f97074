"""A ResNet-inspired network: 2-2-2-2 residual blocks, 11.2 M parameters at 4 classes.

Source: He et al. 2015, "Deep Residual Learning", the 18-layer network; Goyal et al. 2017 for the zero that each
block's last normalization starts at (a block starts as the identity).
"""

from __future__ import annotations

from torch import Tensor, nn

from models.layers import IMAGENET_MEAN, IMAGENET_STD, classifier_head, conv_bn

MEAN, STD = IMAGENET_MEAN, IMAGENET_STD


class Residual(nn.Module):
    """Two 3x3 convolutions and a shortcut, by 1x1 where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Sequential(*conv_bn(inputs, outputs, 3, stride))
        self.second = nn.Sequential(*conv_bn(outputs, outputs, 3))
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Sequential(*([] if same else conv_bn(inputs, outputs, 1, stride)))
        self.relu = nn.ReLU(inplace=True)
        # the last normalization starts at zero, so that a block starts as its shortcut
        nn.init.zeros_(self.second[1].weight)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, inputs, h, w) to (n, outputs, h / stride, w / stride)."""
        y: Tensor = self.relu(self.second(self.relu(self.first(x))) + self.shortcut(x))
        return y


def build(classes: int, dropout: float | None = None) -> nn.Module:
    """Build the network. dropout: before the last layer; None, where no recipe gives it, stands for 0.5."""
    stem = nn.Sequential(*conv_bn(3, 64, 7, 2))
    layers: list[nn.Module] = [stem, nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)]
    inputs = 64
    for outputs, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        layers += [Residual(inputs, outputs, stride), Residual(outputs, outputs, 1)]
        inputs = outputs
    return nn.Sequential(*layers, *classifier_head(inputs, classes, 0.5 if dropout is None else dropout))
