import dataclasses

import pytest
import torch

from tests.training.learner import Learner
from training.compute.mode import ComputeMode
from training.optimizer import build_optimizer
from training.recipes import load_recipe

EDGE = load_recipe("edge")
FRAMES = torch.randint(0, 256, (8, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(8) % 3


def learner(recipe=EDGE, arch="squeezenet_inspired", memory_format="channels_last", seed=0):
    return Learner(arch, 3, recipe, ComputeMode("fp32", memory_format), seed=seed)


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("memory_format", ["contiguous", "channels_last"])
def test_a_restored_learner_takes_the_same_step_to_the_last_bit(optimizer, memory_format):
    recipe = dataclasses.replace(EDGE, optimizer=optimizer, mixup_alpha=0.2, cutmix_alpha=1.0)
    first = learner(recipe, memory_format=memory_format)
    for step in range(3):
        first.step(FRAMES, LABELS, 1e-3, step)
    other = learner(recipe, memory_format=memory_format, seed=9)
    other.state.restore(first.state.tensors())
    for twin in (first, other):
        twin.step(FRAMES, LABELS, 1e-3, 3)
    assert same(first.state.tensors(), other.state.tensors())


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_restored_learner_in_half_precision_takes_the_same_step(precision):
    """In fp16 the loss is scaled, and the scale is remembered; the first steps overflow, and are left out."""
    first, other = (Learner("squeezenet_inspired", 3, EDGE, ComputeMode(precision), seed=seed) for seed in (0, 9))
    for step in range(4):
        first.step(FRAMES, LABELS, 1e-3, step)
    other.state.restore(first.state.tensors())
    for twin in (first, other):
        totals = twin.step(FRAMES, LABELS, 1e-3, 4)
        assert totals.isfinite().all()
    assert same(first.state.tensors(), other.state.tensors())
    assert ("scaler.scale" in first.state.tensors()) == (precision == "fp16")


def test_dropout_depends_on_the_step_s_seed_alone():
    losses = []
    for noise in (1, 2):
        fresh = learner()
        torch.manual_seed(noise)
        losses.append(fresh.step(FRAMES, LABELS, 1e-3, 5))
    assert torch.equal(*losses)


def test_norm_and_bias_are_spared_from_decay():
    network = learner().state.network
    groups = build_optimizer(network, EDGE).param_groups
    assert {p.ndim > 1 for p in groups[0]["params"]} == {True}
    assert {p.ndim > 1 for p in groups[1]["params"]} == {False}
    assert (groups[0]["weight_decay"], groups[1]["weight_decay"]) == (EDGE.weight_decay, 0)


def test_published_recipes_decay_everything():
    assert len(build_optimizer(learner().state.network, load_recipe("after")).param_groups) == 1


def test_the_average_equals_its_plain_twin():
    averaged = learner(dataclasses.replace(EDGE, average_decay=0.9))
    name, twin = "0.0.weight", None
    for step in range(6):
        averaged.step(FRAMES, LABELS, 1e-2, step)
        now = dict(averaged.state.network.named_parameters())[name].detach().clone()
        decay = min(0.9, (1 + step) / (10 + step))
        twin = now if twin is None else decay * twin + (1 - decay) * now
    assert torch.allclose(dict(averaged.state.eval_network.named_parameters())[name], twin, atol=1e-6)


def test_a_clipped_step_is_counted():
    totals = learner(dataclasses.replace(EDGE, clip_norm=1e-6)).step(FRAMES, LABELS, 1e-3, 0)
    assert totals[2] == 1
    assert totals[3] == len(LABELS)


def test_a_batch_is_learned_by_heart():
    overfitted = learner(dataclasses.replace(EDGE, label_smoothing=0.0, dropout={"default": 0.0}))
    losses = [float(overfitted.step(FRAMES, LABELS, 1e-3, step)[0]) for step in range(60)]
    assert losses[-1] < 0.1 * losses[0]
