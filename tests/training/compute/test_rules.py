"""What decides about a step on a GPU: rules of steps, shapes and networks."""

import dataclasses

import pytest

import models
from core.errors import InputError
from training.compute import rules
from training.compute.distribution import DistContext
from training.compute.mode import Compute, ComputeMode
from training.compute.rules import COMPILE_STEPS, GpuOptions, apply_rules, count_steps, has_depthwise
from training.recipes import load_recipe

EDGE = load_recipe("edge")
GPU = Compute(ComputeMode("bf16", "channels_last"), "cuda")


@pytest.fixture(autouse=True)
def compiler(monkeypatch):
    monkeypatch.setattr(rules.shutil, "which", lambda name: f"/usr/bin/{name}")


def completed(compute=GPU, recipe=EDGE, arch="squeezenet_inspired", rows=2611, **options):
    return apply_rules(compute, GpuOptions(**options), recipe, rows, 64, models.build(arch, 3)).mode


@pytest.mark.parametrize(
    ("asked", "on_gpu", "steps", "compiled"),
    [
        ("auto", True, 3 * COMPILE_STEPS, True),
        ("auto", True, 3 * COMPILE_STEPS - 1, False),
        ("auto", False, 10**9, False),
        ("yes", False, 1, True),
        ("no", True, 10**9, False),
    ],
)
def test_a_run_is_compiled_when_it_has_enough_steps_for_each_shape(asked, on_gpu, steps, compiled):
    assert rules.decide_compile(asked, on_gpu, steps, 3) is compiled


def test_a_run_is_not_compiled_by_itself_where_there_is_no_compiler(monkeypatch):
    monkeypatch.setattr(rules.shutil, "which", lambda name: None)
    assert not rules.decide_compile("auto", True, 10**9, 1)


def test_shapes_are_the_sides_of_the_images_and_the_smaller_last_batch():
    at_full_size = dataclasses.replace(EDGE, start_size=1.0)
    assert count_steps(at_full_size, 10 * EDGE.batch, 64) == (10 * EDGE.epochs, 1)
    assert count_steps(at_full_size, 10 * EDGE.batch + 1, 64) == (
        10 * EDGE.epochs,
        1,
    )  # one image left over is left out
    assert count_steps(at_full_size, 10 * EDGE.batch + 2, 64) == (10 * EDGE.epochs, 2)
    assert count_steps(EDGE, 10 * EDGE.batch + 2, 64)[1] == 6


def test_the_log_says_by_which_numbers_a_run_is_compiled_or_not():
    said = rules.explain_compile(EDGE, 10 * EDGE.batch, 64)
    assert f"{10 * EDGE.epochs:,} steps in 3 shapes" in said
    assert f"from {3 * COMPILE_STEPS:,} on" in said


def test_a_step_on_one_gpu_is_captured():
    assert completed().captured
    assert not completed(capture="no").captured


@pytest.mark.parametrize(
    ("compute", "changes", "reason"),
    [
        (Compute(ComputeMode()), {}, "cpu has no CUDA graphs"),
        (dataclasses.replace(GPU, dist=DistContext(0, 2)), {}, "several processes"),
        (dataclasses.replace(GPU, mode=ComputeMode("fp16")), {}, "fp16"),
        (GPU, {"mixup_alpha": 0.2}, "mixup"),
        (GPU, {"cutmix_alpha": 0.2}, "mixup"),
    ],
)
def test_what_cannot_be_captured_is_not_and_yes_is_refused_with_the_reason(compute, changes, reason):
    recipe = dataclasses.replace(EDGE, **changes)
    assert not completed(compute, recipe).captured
    with pytest.raises(InputError, match=f"--capture yes is not possible: .*{reason}"):
        completed(compute, recipe, capture="yes")


def test_a_run_resumed_where_it_cannot_be_captured_takes_plain_steps():
    captured = dataclasses.replace(GPU, mode=ComputeMode("bf16", captured=True))
    assert rules.captured_if_possible(captured, EDGE) == captured
    elsewhere = rules.captured_if_possible(dataclasses.replace(captured, device="cpu"), EDGE)
    assert elsewhere.mode == ComputeMode("bf16")


def test_cudnn_times_no_kernels_of_depthwise_networks():
    found = {arch: has_depthwise(models.build(arch, 3)) for arch in models.names()}
    assert found == {"mobilenet_inspired": True, "resnet_inspired": False, "squeezenet_inspired": False}
    assert completed().cudnn_benchmark
    assert not completed(arch="mobilenet_inspired").cudnn_benchmark
    assert completed(arch="mobilenet_inspired", cudnn_benchmark="yes").cudnn_benchmark
    assert not completed(Compute(ComputeMode())).cudnn_benchmark
    assert not completed(deterministic=True).cudnn_benchmark
