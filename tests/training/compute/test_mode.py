"""The choice of a mode: by the least time at the recipe's batch, whatever the neighbours do."""

import itertools

import numpy as np
import pytest
import torch

from tests.training.learner import Learner
from training.compute import mode
from training.compute.mode import TRIAL_BATCH, Compute, ComputeMode, choose_mode
from training.recipes import load_recipe

ARCH = "squeezenet_inspired"
TIMES_MS = {"fp32 contiguous": 100.0, "fp32 channels_last": 90.0, "bf16 contiguous": 70.0, "bf16 channels_last": 60.0}


class Clock:
    """Steps that take no time but report TIMES_MS, `noise` times as much."""

    def __init__(self):
        self.steps, self.noise = [], itertools.repeat(1)

    def step(self, candidate, frames, labels):
        self.steps.append((str(candidate.mode), len(frames)))
        return TIMES_MS.get(str(candidate.mode), 1000.0) * len(frames) / 64 * next(self.noise)


@pytest.fixture
def clock(monkeypatch):
    it = Clock()
    monkeypatch.setattr(mode._Candidate, "step", lambda self, frames, labels: it.step(self, frames, labels))
    monkeypatch.setattr(mode, "native_precisions", lambda: ("fp32", "bf16", "fp16"))
    return it


def test_the_fastest_is_chosen_at_the_recipes_batch(clock):
    chosen, timed_ms = choose_mode(ARCH, 3, 32, 64)
    assert chosen == ComputeMode("bf16", "channels_last")
    assert timed_ms["bf16 channels_last"] == 60.0
    assert ("bf16 channels_last", 64) in clock.steps


def test_a_hopeless_combination_is_never_timed_at_full_size(clock):
    choose_mode(ARCH, 3, 32, 64)
    assert ("fp16 contiguous", TRIAL_BATCH) in clock.steps
    assert ("fp16 contiguous", 64) not in clock.steps


@pytest.mark.parametrize("seed", range(20))
def test_a_neighbour_that_doubles_a_third_of_the_steps_does_not_decide(clock, seed):
    random = np.random.default_rng(seed)
    clock.noise = (1 + (random.random() < 1 / 3) for _ in itertools.count())
    assert choose_mode(ARCH, 3, 32, 64)[0] == ComputeMode("bf16", "channels_last")


def test_one_combination_left_is_not_timed(clock):
    assert choose_mode(ARCH, 3, 32, 64, "cpu", ("fp16", "contiguous")) == (ComputeMode("fp16", "contiguous"), {})
    assert not clock.steps


@pytest.mark.parametrize(("native", "precision"), [(True, "bf16"), (False, "fp16")])
def test_on_a_gpu_nothing_is_timed(clock, monkeypatch, native, precision):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native or including_emulation)
    assert choose_mode(ARCH, 3, 32, 64, "cuda:1") == (ComputeMode(precision, "channels_last"), {})
    assert choose_mode(ARCH, 3, 32, 64, "cuda", ("tf32", None))[0] == ComputeMode("tf32", "channels_last")
    assert not clock.steps


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_tf32_is_used_where_it_is_named_and_nowhere_else(precision):
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    try:
        Compute(ComputeMode(precision)).configure()
        used = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
        assert used == ((precision == "tf32"),) * 2
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def test_determinism_is_asked_of_torch_for_one_training_and_not_for_the_next(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    Compute(ComputeMode(deterministic=True)).configure()
    asked = torch.are_deterministic_algorithms_enabled()
    Compute(ComputeMode()).configure()
    assert (asked, torch.are_deterministic_algorithms_enabled()) == (True, False)


def test_a_compiled_step_is_the_plain_one(monkeypatch):
    monkeypatch.setattr(mode, "COMPILE_BACKEND", "eager")
    frames = torch.randint(0, 256, (8, 32, 32, 3), dtype=torch.uint8)
    learners = [
        Learner(ARCH, 3, load_recipe("edge"), ComputeMode("fp32", "contiguous", compiled)) for compiled in (True, False)
    ]
    for learner in learners:
        for number in range(2):
            learner.step(frames, torch.arange(8) % 3, 1e-3, number)
    ours, theirs = (learner.state.tensors() for learner in learners)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_no_shape_of_a_batch_is_one_too_many_to_be_compiled(monkeypatch):
    """Left to itself torch.compile gives up after 8, and goes on eager."""
    compiled = []
    monkeypatch.setattr(mode, "COMPILE_BACKEND", lambda graph, inputs: compiled.append(inputs[-1].shape) or graph)
    network = torch.nn.Conv2d(3, 4, 3)
    run = ComputeMode("fp32", "contiguous", compiled=True).compile_or_eager(network)
    for side in range(8, 8 + 12):
        run(torch.zeros(1, 3, side, side))
    assert len(compiled) == 12


def test_run_json_written_before_compilation_was_known_is_read():
    assert ComputeMode.from_json({"precision": "bf16", "memory_format": "contiguous"}) == ComputeMode(
        "bf16", "contiguous", False
    )
