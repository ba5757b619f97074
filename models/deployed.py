"""The network as it is deployed: normalization, network, temperature and softmax in one module, exported as a whole."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class DeployedNetwork(nn.Module):
    """A network that maps frames, uint8 (n, S, S, 3) RGB, to probabilities, float32 (n, classes).

    The cast to float comes before the transpose, because TensorRT's parser refuses a Transpose of uint8.
    """

    scale: Tensor
    offset: Tensor

    def __init__(
        self, network: nn.Module, mean: tuple[float, ...], std: tuple[float, ...], temperature: float = 1.0
    ) -> None:
        super().__init__()
        self.network = network
        self.temperature = temperature
        # (x / 255 - mean) / std as one multiplication and one addition
        self.register_buffer("scale", 1 / (255 * torch.tensor(std)).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("offset", (-torch.tensor(mean) / torch.tensor(std)).view(1, 3, 1, 1), persistent=False)

    def normalize(self, frames_nhwc: Tensor) -> Tensor:
        """Return the network's input, float32 (n, 3, S, S), channels last."""
        if torch.compiler.is_exporting():  # the usual form, by channel, which runtimes fuse
            return frames_nhwc.to(torch.float32).permute(0, 3, 1, 2) * self.scale + self.offset
        # the same numbers, a row of pixels at a time: PyTorch takes 6 times as long to broadcast 3 values
        width = frames_nhwc.shape[2]
        rows = frames_nhwc.flatten(2) * self.scale.flatten().repeat(width)
        rows += self.offset.flatten().repeat(width)
        return rows.view(frames_nhwc.shape).permute(0, 3, 1, 2)

    def logits(self, frames_nhwc: Tensor) -> Tensor:
        """Return float32 (n, classes), before temperature and softmax."""
        logits: Tensor = self.network(self.normalize(frames_nhwc)).float()
        return logits

    def forward(self, frames_nhwc: Tensor) -> Tensor:
        """Return probabilities, float32 (n, classes)."""
        return torch.softmax(self.logits(frames_nhwc) / self.temperature, dim=1)
