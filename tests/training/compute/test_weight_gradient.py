"""A deep convolution's gradients are those of nn.Conv2d, by another way."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import conv2d

from training.compute.mode import ComputeMode
from training.compute.weight_gradient import (
    CHANNELS_PER_POSITION,
    DeepConvolution,
    _ConvolutionFunction,
    use_matrix_product_gradients,
)

DEEP = 4 * CHANNELS_PER_POSITION
"""Channels that make a map of 2x2 a small one."""


def is_by_product(conv: nn.Module, side: int, autocast: bool = True) -> bool:
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        output = conv(torch.zeros(2, conv.in_channels, side, side))
    return "_ConvolutionFunction" in output.grad_fn.name()


@given(
    n=st.integers(1, 3),
    channels=st.tuples(st.integers(1, 3), st.integers(1, 4)),
    size=st.tuples(st.integers(3, 7), st.integers(3, 7)),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    channels_last=st.booleans(),
)
def test_gradients_are_those_of_a_convolution(n, channels, size, kernel, stride, padding, channels_last):
    torch.manual_seed(0)
    x, weight = torch.randn(n, channels[0], *size).double(), torch.randn(channels[1], channels[0], *kernel).double()
    layout = torch.channels_last if channels_last else torch.contiguous_format
    x, weight = (tensor.contiguous(memory_format=layout).requires_grad_() for tensor in (x, weight))
    outputs = _ConvolutionFunction.apply(x, weight, stride, padding), conv2d(x, weight, None, stride, padding)
    assert torch.equal(*outputs)
    gradient = torch.randn_like(outputs[0])
    ours, theirs = (torch.autograd.grad(output, (x, weight), gradient) for output in outputs)
    for mine, reference in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, reference)


def test_only_a_small_map_is_done_so():
    conv = deepened(nn.Conv2d(4, DEEP, 3, 2, 1, bias=False))
    assert is_by_product(conv, 4)
    assert not is_by_product(conv, 5)
    assert not is_by_product(deepened(nn.Conv2d(4, DEEP - 1, 3, 2, 1, bias=False)), 4)


def test_float32_is_left_to_onednn():
    assert not is_by_product(deepened(nn.Conv2d(4, DEEP, 1, bias=False)), 2, autocast=False)


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(4, DEEP, 3),
        nn.Conv2d(4, DEEP, 3, groups=2, bias=False),
        nn.Conv2d(4, DEEP, 3, dilation=2, bias=False),
        nn.Conv2d(4, DEEP, 3, padding=1, padding_mode="reflect", bias=False),
        nn.Conv2d(4, DEEP, 3, padding="same", bias=False),
    ],
    ids=["bias", "groups", "dilation", "reflect", "same"],
)
def test_what_the_product_does_not_know_is_left_alone(conv):
    assert type(deepened(conv)) is nn.Conv2d


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        (ComputeMode("bf16", "channels_last"), DeepConvolution),
        (ComputeMode("bf16", "channels_last", compiled=True), nn.Conv2d),
        (ComputeMode("bf16", "contiguous"), nn.Conv2d),
        (ComputeMode("fp32", "channels_last"), nn.Conv2d),
    ],
    ids=str,
)
def test_a_mode_that_gains_by_it_prepares_it(mode, kind):
    network = mode.prepare(nn.Sequential(nn.Conv2d(4, DEEP, 1, bias=False)))
    assert type(network[0]) is kind


def deepened(conv: nn.Conv2d) -> nn.Module:
    network = nn.Sequential(conv)
    use_matrix_product_gradients(network)
    return network[0]
