"""The rules for a step on a GPU, beside its precision: whether it is compiled, captured, and has timed kernels.

Nothing is timed: at 64 px every mode is bound by the rate at which the host starts kernels, so a clock compares noise.
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
"""The number of steps for each shape of a batch from which torch.compile pays for itself.

In a prototype on an H200 it took 25 to 37 s, and the loop at 64 px and batch 128 gained 1.3 ms a step by it.
"""


@dataclass(frozen=True)
class GpuOptions:
    """The options of a step on a GPU on the command line, each `auto`, `yes` or `no`."""

    compile: str = "auto"
    capture: str = "auto"
    cudnn_benchmark: str = "auto"
    deterministic: bool = False


def apply_rules(
    compute: Compute, options: GpuOptions, recipe: Recipe, rows: int, size_px: int, network: nn.Module
) -> Compute:
    """Return `compute` with its mode completed, given precision and format. rows: the training rows of the pack."""
    _refuse_gpu_options(compute, options)
    benchmark = options.cudnn_benchmark == "yes"
    if options.cudnn_benchmark == "auto":  # the kernel that is the fastest in a timing may be another in the next run
        benchmark = compute.on_gpu and not options.deterministic and not has_depthwise(network)
    steps, shapes = count_steps(recipe, rows, size_px)
    mode = replace(
        compute.mode,
        compiled=decide_compile(options.compile, compute.on_gpu, steps, shapes),
        captured=decide_capture(options.capture, compute, recipe),
        cudnn_benchmark=benchmark,
        deterministic=options.deterministic,
    )
    return replace(compute, mode=mode)


def _refuse_gpu_options(compute: Compute, options: GpuOptions) -> None:
    """Raise InputError for an option that only a GPU has when the device is another."""
    if compute.on_gpu:
        return
    for flag, is_set in (
        ("--precision tf32", compute.mode.precision == "tf32"),
        ("--cudnn-benchmark yes", options.cudnn_benchmark == "yes"),
    ):
        if is_set:
            raise InputError(f"{flag} needs a GPU, and {compute.device} is not one: leave it out")


def decide_compile(choice: str, on_gpu: bool, steps: int, shapes: int) -> bool:
    """Tell whether a run of `steps` is compiled; `auto`: on a GPU, in a long run, where there is a compiler."""
    if choice != "auto":
        return choice == "yes"
    compiler = shutil.which("gcc") or shutil.which("clang")  # without one Triton cannot start
    return on_gpu and steps >= COMPILE_STEPS * shapes and compiler is not None


def decide_capture(choice: str, compute: Compute, recipe: Recipe) -> bool:
    """Tell whether steps are captured; `auto`: wherever they can be. Raises InputError when `yes` cannot be."""
    obstacle = capture_obstacle(compute, recipe)
    if choice == "yes" and obstacle:
        raise InputError(f"--capture yes is not possible: {obstacle}; give --capture auto or no")
    return choice != "no" and not obstacle


def captured_if_possible(compute: Compute, recipe: Recipe) -> Compute:
    """Return `compute` without the capture when this run cannot have it; its mode may come from a run that could."""
    if capture_obstacle(compute, recipe):
        return replace(compute, mode=replace(compute.mode, captured=False))
    return compute


def capture_obstacle(compute: Compute, recipe: Recipe) -> str:
    """Return the reason that forbids a step to be a CUDA graph; empty when there is none."""
    if not compute.on_gpu:
        return f"{compute.device} has no CUDA graphs"
    if compute.dist.size > 1:
        return "several processes take plain steps"
    if compute.mode.precision == "fp16":
        return "the loss scaling of fp16 decides on the host"
    if recipe.mixup_alpha or recipe.cutmix_alpha:
        return "mixup and cutmix draw on the host"  # a replay would repeat the draw of the capture
    return ""


def count_steps(recipe: Recipe, rows: int, size_px: int) -> tuple[int, int]:
    """Return the number of full steps of a run, and the number of shapes of its batches."""
    sides = {side_px_at(recipe, epoch, size_px) for epoch in range(recipe.epochs)}
    has_smaller_last = rows > recipe.batch and rows % recipe.batch > 1  # one of a single image is left out
    shapes = len(sides) * (2 if has_smaller_last else 1)
    steps = recipe.epochs * max(rows // recipe.batch, 1)
    return steps, shapes


def explain_compile(recipe: Recipe, rows: int, size_px: int) -> str:
    """Return the numbers by which `--compile auto` decides, for the log."""
    steps, shapes = count_steps(recipe, rows, size_px)
    return f"{steps:,} steps in {shapes} shapes of a batch; --compile auto compiles from {COMPILE_STEPS * shapes:,} on"


def has_depthwise(network: nn.Module) -> bool:
    """Tell whether a network has depthwise convolutions, for which cuDNN's timing takes 12 to 20 s a shape."""
    convolutions = (module for module in network.modules() if isinstance(module, nn.Conv2d))
    return any(conv.groups == conv.in_channels > 1 for conv in convolutions)
