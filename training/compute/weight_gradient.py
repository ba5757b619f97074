"""The gradient of a deep convolution's weights, on a CPU in bf16, as one matrix product.

oneDNN adds image after image to a float32 gradient of all weights, one for each thread: 9 MB for 512 channels by 512
of 3x3, read and written once an image. That takes 13.6 ms for a batch of 128 at 2x2 positions, and 23 ms while another
process fills the shared cache. A product over all images and positions writes each weight once: 6.2 ms in both cases.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad

CHANNELS_PER_POSITION = 8
"""The product is at least as fast from this number of output channels for each position of the output map on."""


class DeepConvolution(nn.Conv2d):
    """A convolution with the same result as nn.Conv2d, whose weight gradient is one matrix product."""

    def forward(self, input: Tensor) -> Tensor:
        """Map (n, C, h, w) to the output of nn.Conv2d."""
        is_training = torch.is_grad_enabled() and torch.is_autocast_enabled("cpu")
        if not (is_training and self._is_deep(input)):
            return super().forward(input)
        # cast as autocast would: the function then saves bf16 tensors, and autograd casts their gradients back
        dtype = torch.get_autocast_dtype("cpu")
        weight = self.weight.to(dtype)
        output: Tensor = _ConvolutionFunction.apply(input.to(dtype), weight, self.stride, self.padding)
        return output

    def _is_deep(self, input: Tensor) -> bool:
        """Tell whether the output has many channels for its positions, as at the end of a network."""
        # rounded up: with the usual padding of half a kernel, a stride of 2 makes 3 positions of 5
        high, wide = (-(-length // step) for length, step in zip(input.shape[2:], self.stride, strict=True))
        return self.out_channels >= CHANNELS_PER_POSITION * high * wide


class _ConvolutionFunction(torch.autograd.Function):
    """A convolution without bias, groups and dilation, whose gradient is written out."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return conv2d(x, weight, None, stride, padding)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, None, None]:
        x, weight = ctx.saved_tensors
        (gradient,) = gradients
        input_gradient = None
        if ctx.needs_input_grad[0]:  # the first layer's input, the images, needs none
            # stride, padding, dilation, transposed, output padding, groups
            geometry = ctx.stride, ctx.padding, (1, 1), False, (0, 0), 1
            wanted = True, False, False  # of input, weight and bias
            results = torch.ops.aten.convolution_backward(gradient, x, weight, None, *geometry, wanted)
            input_gradient = results[0]
        weight_gradient = _weight_gradient(gradient, x, weight, ctx.stride, ctx.padding)
        return input_gradient, weight_gradient, None, None


def _weight_gradient(
    gradient: Tensor, x: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]
) -> Tensor:
    """Return the weights' gradient, (outputs, inputs, kh, kw): the output's gradient times the windows of the input."""
    outputs, inputs, kh, kw = weight.shape
    # channels last throughout, as the tensors lie in memory: permuting them copies nothing
    high, wide = padding
    padded = pad(x.permute(0, 2, 3, 1), (0, 0, wide, wide, high, high))
    windows = padded.unfold(1, kh, stride[0]).unfold(2, kw, stride[1])  # (n, h, w, inputs, kh, kw)
    by_position = windows.permute(0, 1, 2, 4, 5, 3)
    window_rows = by_position.flatten(3).flatten(0, 2)  # a row for each image and position
    gradient_rows = gradient.permute(0, 2, 3, 1).reshape(-1, outputs)
    product = gradient_rows.t() @ window_rows
    return product.view(outputs, kh, kw, inputs).permute(0, 3, 1, 2)


def use_matrix_product_gradients(network: nn.Module) -> None:
    """Turn every plain convolution of `network` into a DeepConvolution, in place; names and weights stay."""
    for module in network.modules():
        # exactly nn.Conv2d: a class derived from it may have another forward
        if type(module) is nn.Conv2d and _is_plain(module):
            module.__class__ = DeepConvolution  # weights, hooks and the place in the parent stay


def _is_plain(conv: nn.Conv2d) -> bool:
    """Tell whether `_ConvolutionFunction` computes this convolution."""
    return (
        conv.bias is None
        and conv.groups == 1
        and conv.dilation == (1, 1)
        and conv.padding_mode == "zeros"
        and not isinstance(conv.padding, str)
    )
