"""How fast the step is beside the plain one, and how fast the whole loop is on a device, augmentation included."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor

import models
from training.augment import Augmentation
from training.augment_torch import DeviceAugmentation
from training.learner import Learner
from training.mode import Mode, choose_mode
from training.recipe import named

CLASSES = 6
ROUNDS = 7
UVH26_ROWS = 252_723
"""Source: UVH-26's crops; the published runs take 100 epochs of them for each of three networks."""
EPOCHS = 100
PLAIN = Mode("fp32", "contiguous")


def measure_steps(archs: tuple[str, ...], size_px: int, batch: int, device: str = "cpu") -> list[dict[str, Any]]:
    """Time the step in the mode that training would choose against eager fp32 contiguous, interleaved."""
    frames = torch.randint(0, 256, (batch, size_px, size_px, 3), dtype=torch.uint8)
    labels = torch.arange(batch) % CLASSES
    rows = []
    for arch in archs:
        mode, _ = choose_mode(arch, CLASSES, size_px, batch, device)
        learners = [Learner(arch, CLASSES, named("after"), m, device=device) for m in (mode, PLAIN)]
        runs = [partial(one.step, frames, labels, 1e-4, 0) for one in learners]
        seconds = [[_seconds(run) for run in runs] for _ in range(ROUNDS + 1)][1:]
        ours, plain = (statistics.median(column) for column in zip(*seconds, strict=True))
        rows.append(
            {
                "arch": arch,
                "size_px": size_px,
                "batch": batch,
                "mode": mode.as_json(),
                "ratio": round(statistics.median(slow / fast for fast, slow in seconds), 2),
                "images_per_s": round(batch / ours, 1),
                "plain_images_per_s": round(batch / plain, 1),
            }
        )
    return rows


def measure_loop(archs: tuple[str, ...], size_px: int, batch: int, steps: int, device: str) -> dict[str, Any]:
    """Time steps with augmentation on images already on the device; add the hours of the published job."""
    images = torch.randint(0, 256, (4 * batch, size_px, size_px, 3), dtype=torch.uint8)
    rates = {arch: _loop_images_per_s(arch, images.to(device), batch, steps, device) for arch in archs}
    return {
        "device": device,
        "size_px": size_px,
        "batch": batch,
        "images_per_s": {arch: round(rate, 1) for arch, rate in rates.items()},
        "hours_uvh26_100_epochs": round(sum(UVH26_ROWS * EPOCHS / rate for rate in rates.values()) / 3600, 2),
    }


def _loop_images_per_s(arch: str, resident: Tensor, batch: int, steps: int, device: str) -> float:
    size_px, random = resident.shape[1], np.random.default_rng(0)
    mode = Mode("bf16", "channels_last") if device != "cpu" else choose_mode(arch, CLASSES, size_px, batch)[0]
    learner = Learner(arch, CLASSES, named("after"), mode, device=device)
    augment = _augmentation(device, size_px, models.normalisation(arch)[0])
    labels = torch.arange(batch, device=device) % CLASSES

    def step() -> None:
        chosen = torch.from_numpy(random.integers(0, len(resident), batch)).to(device)
        learner.step(augment(resident[chosen], random), labels, 1e-4, 0)

    step()
    return batch / statistics.median(_seconds(step) for _ in range(steps))


def _augmentation(device: str, size_px: int, mean: tuple[float, ...]) -> Any:
    if device != "cpu":
        return DeviceAugmentation(named("after"), size_px, mean)
    plain = Augmentation(named("after"), size_px, mean)
    return lambda frames, random: torch.from_numpy(plain(frames.numpy(), random))


def _seconds(run: Callable[[], Any]) -> float:
    started = perf_counter()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return perf_counter() - started
