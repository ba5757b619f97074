"""The contract of an architecture, checked on every one that is found by name."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import models
from core.errors import InputError

CLASSES = 7


@pytest.fixture(scope="module", params=models.names())
def arch(request):
    return request.param


@pytest.fixture(scope="module")
def network(arch):
    torch.manual_seed(0)
    return models.build(arch, CLASSES).eval()


@pytest.mark.parametrize("side_px", [32, 65, 512])
@torch.inference_mode()
def test_any_input_from_32_to_512_px_gives_one_float32_logit_per_class(network, side_px):
    logits = network(torch.randn(2, 3, side_px, side_px))
    assert (logits.shape, logits.dtype) == ((2, CLASSES), torch.float32)
    assert logits.isfinite().all()


@torch.inference_mode()
def test_outputs_are_logits_neither_clipped_nor_probabilities(network):
    """Catches a ReLU after the last layer, as in the published SqueezeNet: it dies and stops all learning."""
    logits = network(torch.randn(16, 3, 64, 64))
    assert logits.min() < 0 < logits.max()


@torch.inference_mode()
def test_a_row_does_not_depend_on_the_rows_beside_it(network):
    frames_nchw = torch.randn(3, 3, 64, 64)
    together_nc = network(frames_nchw)
    scale = together_nc.abs().max()  # untrained logits may be tiny
    assert (together_nc[0] - together_nc[1]).abs().max() > 0.01 * scale, "every row gets the same logits"
    assert (network(frames_nchw[1:2])[0] - together_nc[1]).abs().max() < 0.001 * scale


def test_equal_seeds_build_equal_weights(arch):
    def weights():
        torch.manual_seed(3)
        return models.build(arch, CLASSES).state_dict()

    first, second = weights(), weights()
    assert first.keys() == second.keys()
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_dropout_is_the_requested_one(arch):
    def rates(**more):
        return [m.p for m in models.build(arch, CLASSES, **more).modules() if isinstance(m, nn.Dropout)]

    assert len(rates()) == 1
    assert 0 < rates()[0] < 1
    assert rates(dropout=0.125) == [0.125]
    assert not any(rates(dropout=0.0))


def test_every_weight_learns(arch):
    torch.manual_seed(0)
    network = models.build(arch, CLASSES, dropout=0.0).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    for _ in range(2):  # the first step moves what starts at zero
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(torch.randn(4, 3, 64, 64)), torch.arange(4)).backward()
        optimizer.step()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_pretrained_weights_are_refused(arch, tmp_path):
    for pretrained in (True, str(tmp_path / "weights.pth")):
        with pytest.raises(InputError, match=rf"{arch} has no pretrained weights|does not exist"):
            models.build(arch, CLASSES, pretrained=pretrained)


def test_normalization_is_a_mean_and_a_deviation_of_rgb_from_0_to_1(arch):
    for values in models.normalization(arch):
        assert len(values) == 3
        assert all(0 < value < 1 for value in values)
