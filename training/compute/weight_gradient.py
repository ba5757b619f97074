"""The gradient of a deep convolution's weights, on a CPU in bf16, as one matrix product.

oneDNN adds image after image to a float32 gradient of all weights, one for each thread: 9 MB for 512 channels by 512
of 3x3, read and written once an image. That is 13.6 ms of a batch of 128 at 2x2 positions, and 23 ms while a neighbour
fills the cache that they share. A product over all images and positions writes each weight once: 6.2 ms either way.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad

CHANNELS_PER_POSITION = 8
"""Output channels for each position of the output map from which on the product is the faster, or as fast."""


class DeepConvolution(nn.Conv2d):
    """A convolution of the same numbers; see the module for its gradient."""

    def forward(self, input: Tensor) -> Tensor:
        """Map (n, C, h, w) to the output of nn.Conv2d."""
        if not (torch.is_grad_enabled() and torch.is_autocast_enabled("cpu") and self._is_deep(input)):
            return super().forward(input)
        dtype = torch.get_autocast_dtype("cpu")
        output: Tensor = _ConvolutionFunction.apply(input.to(dtype), self.weight.to(dtype), self.stride, self.padding)
        return output

    def _is_deep(self, input: Tensor) -> bool:
        high, wide = (-(-length // step) for length, step in zip(input.shape[2:], self.stride, strict=True))
        return self.out_channels >= CHANNELS_PER_POSITION * high * wide


class _ConvolutionFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return conv2d(x, weight, None, stride, padding)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, None, None]:
        x, weight = ctx.saved_tensors
        of_x = None
        if ctx.needs_input_grad[0]:
            where = ctx.stride, ctx.padding, (1, 1), False, (0, 0), 1
            of_x = torch.ops.aten.convolution_backward(gradients[0], x, weight, None, *where, (True, False, False))[0]
        return of_x, _weight_gradient(gradients[0], x, weight, ctx.stride, ctx.padding), None, None


def _weight_gradient(
    gradient: Tensor, x: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]
) -> Tensor:
    """Return (outputs, inputs, kh, kw): the output's gradient times what each position of the output has seen."""
    outputs, inputs, kh, kw = weight.shape
    padded = pad(x.permute(0, 2, 3, 1), (0, 0, padding[1], padding[1], padding[0], padding[0]))
    windows = padded.unfold(1, kh, stride[0]).unfold(2, kw, stride[1])
    seen = windows.permute(0, 1, 2, 4, 5, 3).flatten(3).flatten(0, 2)
    product = gradient.permute(0, 2, 3, 1).reshape(-1, outputs).t() @ seen
    return product.view(outputs, kh, kw, inputs).permute(0, 3, 1, 2)


def use_matrix_product_gradients(network: nn.Module) -> None:
    """Give every plain convolution of `network` this gradient, where its map is small; names and weights stay."""
    for module in network.modules():
        if type(module) is nn.Conv2d and _is_plain(module):
            module.__class__ = DeepConvolution


def _is_plain(conv: nn.Conv2d) -> bool:
    return (
        conv.bias is None
        and conv.groups == 1
        and conv.dilation == (1, 1)
        and conv.padding_mode == "zeros"
        and not isinstance(conv.padding, str)
    )
