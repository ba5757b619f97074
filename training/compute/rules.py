"""What a step on a GPU is beside its precision: compiled, captured, with timed kernels. Rules decide, not the clock.

A host times itself there: at 64 px every mode is bound by the kernels that it can start, so a clock compares noise.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace

from torch import nn

from core.errors import InputError
from training.compute.mode import Compute
from training.recipe import Recipe
from training.schedule import side_px_at

AUTO_YES_NO = ("auto", "yes", "no")
COMPILE_STEPS = 25_000
"""Steps for each shape of a batch from which torch.compile pays for itself.

Measured on an H200: it takes 25 to 37 s, and the loop at 64 px and batch 128 gains 1.3 ms a step by it.
"""


@dataclass(frozen=True)
class GpuOptions:
    """What a person asks of a step on a GPU: `auto`, `yes` or `no` each."""

    compile: str = "auto"
    capture: str = "auto"
    cudnn_benchmark: str = "auto"
    deterministic: bool = False


def apply_rules(
    compute: Compute, options: GpuOptions, recipe: Recipe, rows: int, size_px: int, network: nn.Module
) -> Compute:
    """Return the compute with everything decided but precision and format. rows: the pack's rows of train."""
    benchmark = options.cudnn_benchmark
    asked = {"--precision tf32": compute.mode.precision == "tf32", "--cudnn-benchmark yes": benchmark == "yes"}
    if not compute.on_gpu and any(asked.values()):
        flag = next(name for name, is_asked in asked.items() if is_asked)
        raise InputError(f"{flag} is for a GPU, and {compute.device} is none: leave it out")
    if benchmark == "auto":
        timed = compute.on_gpu and not options.deterministic and not has_depthwise(network)
        benchmark = "yes" if timed else "no"
    mode = replace(
        compute.mode,
        compiled=decide_compile(options.compile, compute.on_gpu, *count_steps(recipe, rows, size_px)),
        captured=decide_capture(options.capture, compute, recipe),
        cudnn_benchmark=benchmark == "yes",
        deterministic=options.deterministic,
    )
    return replace(compute, mode=mode)


def decide_compile(asked: str, on_gpu: bool, steps: int, shapes: int) -> bool:
    """Tell whether a run of `steps` is compiled; `auto`: on a GPU, in a long run, where there is a compiler."""
    if asked != "auto":
        return asked == "yes"
    compiler = shutil.which("gcc") or shutil.which("clang")  # without one Triton cannot start
    return on_gpu and steps >= COMPILE_STEPS * shapes and compiler is not None


def decide_capture(asked: str, compute: Compute, recipe: Recipe) -> bool:
    """Tell whether steps are captured; `auto`: wherever they can be. Raises InputError when `yes` cannot be."""
    obstacle = capture_obstacle(compute, recipe)
    if asked == "yes" and obstacle:
        raise InputError(f"--capture yes is not possible: {obstacle}; give --capture auto or no")
    return asked != "no" and not obstacle


def captured_if_possible(compute: Compute, recipe: Recipe) -> Compute:
    """Return the compute, without a capture when its mode comes from a run that could have one and this one cannot."""
    if capture_obstacle(compute, recipe):
        return replace(compute, mode=replace(compute.mode, captured=False))
    return compute


def capture_obstacle(compute: Compute, recipe: Recipe) -> str:
    """Return the reason why a step cannot be a CUDA graph; empty when it can."""
    if not compute.on_gpu:
        return f"{compute.device} has no CUDA graphs"
    if compute.dist.size > 1:
        return "several processes take plain steps"
    if compute.mode.precision == "fp16":
        return "the loss scaling of fp16 decides on the host"
    if recipe.mixup_alpha or recipe.cutmix_alpha:
        return "mixup and cutmix draw on the host"
    return ""


def count_steps(recipe: Recipe, rows: int, size_px: int) -> tuple[int, int]:
    """Return the full steps of a run, and the shapes of its batches: sides, twice as many with a smaller last batch."""
    sides = {side_px_at(recipe, epoch, size_px) for epoch in range(recipe.epochs)}
    shapes = len(sides) * (1 + (rows > recipe.batch and rows % recipe.batch > 1))
    return recipe.epochs * max(rows // recipe.batch, 1), shapes


def explain_compile(recipe: Recipe, rows: int, size_px: int) -> str:
    """Return what `--compile auto` goes by in a run, for the log."""
    steps, shapes = count_steps(recipe, rows, size_px)
    return f"{steps:,} steps in {shapes} shapes of a batch; --compile auto compiles from {COMPILE_STEPS * shapes:,} on"


def has_depthwise(network: nn.Module) -> bool:
    """Tell whether a network has depthwise convolutions, for which cuDNN's timing takes 12 to 20 s a shape."""
    convolutions = (module for module in network.modules() if isinstance(module, nn.Conv2d))
    return any(conv.groups == conv.in_channels > 1 for conv in convolutions)
