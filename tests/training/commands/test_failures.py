"""What the command says when torch or the device fails while it trains, and of a recipe that cannot be meant."""

from types import SimpleNamespace

import pytest
import torch

from core.errors import DeviceError, InputError
from training.commands import train

JOB = SimpleNamespace(
    arch="net", is_finished=False, compute=SimpleNamespace(device="cuda:0"), recipe=SimpleNamespace(batch=64)
)


def without_kernel(*_):
    """Raise torch's own error for an operation that has no deterministic form."""
    torch.use_deterministic_algorithms(True)
    try:
        torch.nn.functional.max_unpool2d(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1, dtype=torch.int64), 2)
    finally:
        torch.use_deterministic_algorithms(False)


def raising(error):
    """Return a training that raises."""

    def fail(*_):
        raise error

    return fail


@pytest.mark.parametrize(
    ("failing", "kind", "sentence"),
    [
        (without_kernel, InputError, "leave out --deterministic"),
        (raising(torch.OutOfMemoryError("CUDA out of memory")), DeviceError, "give a --batch below 64"),
        (raising(torch.AcceleratorError("CUDA error: an illegal memory access")), DeviceError, "cuda:0, training net,"),
        (raising(RuntimeError("shapes do not match")), RuntimeError, "shapes do not match"),
    ],
)
def test_a_failure_of_torch_is_a_sentence_and_a_fault_of_ours_stays_what_it_is(monkeypatch, failing, kind, sentence):
    monkeypatch.setattr(train, "train", failing)
    with pytest.raises(kind, match=sentence) as caught:
        train._train([JOB])
    assert type(caught.value) is kind


def test_a_dropout_for_no_architecture_is_refused():
    with pytest.raises(InputError, match=r"--dropout names 'resnet', which is no architecture: choose from default, "):
        train.parse(["pack", "--out", "run", "--dropout", "resnet=0.5+default=0.2"])
