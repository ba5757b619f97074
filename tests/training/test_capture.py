"""Captured steps, through a stand-in for a CUDA graph: it records the operations of a step and replays them."""

import dataclasses

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from core.data.pack import open_pack
from tests.export.runs import write_small_pack
from tests.training.learner import Training, record_operations
from training import capture
from training.capture import restoring
from training.recipes import load_recipe

RECIPE = dataclasses.replace(load_recipe("edge"), batch=8, epochs=4)


@pytest.fixture(autouse=True)
def stand_in(monkeypatch):
    monkeypatch.setattr(capture, "graph_recorder", lambda: record_operations)


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    path = tmp_path_factory.mktemp("capture") / "pack"
    write_small_pack(path, rows=60)
    return open_pack(path)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_captured_steps_are_those_that_are_called_to_the_last_bit(pack, optimizer):
    """Two sides of the images, and a smaller last batch of each: four shapes, each warmed up and put back."""
    recipe = dataclasses.replace(RECIPE, optimizer=optimizer)
    captured, called = Training(pack, recipe, captured=True), Training(pack, recipe, captured=True, calls=True)
    assert torch.equal(captured.losses([0, 3]), called.losses([0, 3]))
    ours, theirs = captured.state.tensors(), called.state.tensors()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert len(captured.take.recorded) == 4


def test_captured_steps_are_the_plain_ones_but_for_the_rounding_of_the_rate(pack):
    captured, plain = (Training(pack, RECIPE, captured).losses([0]) for captured in (True, False))
    assert torch.allclose(captured, plain, rtol=1e-4)


def test_a_captured_training_resumes_to_the_last_bit(pack, tmp_path):
    whole = Training(pack, RECIPE, captured=True)
    whole.losses([0])
    whole.state.save(tmp_path)
    resumed = Training(pack, RECIPE, captured=True)
    resumed.state.load(tmp_path)
    assert torch.equal(resumed.losses([3]), whole.losses([3]))


class HostTraffic(TorchDispatchMode):
    """Notes the operations that read from the device or send something there, which a capture refuses."""

    refused = ("_local_scalar_dense", "lift_fresh", "nonzero", "masked_select", "unique", "is_nonzero")

    def __init__(self):
        super().__init__()
        self.seen = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        self.seen |= {name} & set(self.refused)
        return function(*args, **kwargs or {})


def test_a_captured_step_reads_nothing_from_the_device_and_sends_nothing(pack):
    training = Training(pack, RECIPE, captured=True)
    training.losses([0])
    (_, replay), *_ = training.take.recorded.values()
    with HostTraffic() as traffic:
        replay()
    assert not traffic.seen
    with traffic:
        float(training.state.totals[0])
    assert traffic.seen


def test_a_warm_up_is_undone_with_the_random_state():
    kept, new = torch.ones(2), []
    before = torch.get_rng_state()
    with restoring(lambda: [kept, *new], "cpu"):
        kept.add_(torch.rand(2))
        new.append(torch.rand(2))
    assert torch.equal(kept, torch.ones(2))
    assert torch.equal(new[0], torch.zeros(2))
    assert torch.equal(torch.get_rng_state(), before)
