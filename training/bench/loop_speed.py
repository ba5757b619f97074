"""The speed of the whole loop on a device: batches, augmentation and steps."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from itertools import count, repeat
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

import models
from core.data.pack import Pack
from core.geometry.preprocess import Geometry
from training.augment import gpu
from training.augment.prepare import HostAugment, choose_place, open_preparer
from training.batches import Batches, PreparedBatch
from training.compute.mode import Compute, choose_mode
from training.compute.rules import GpuOptions, apply_rules
from training.recipe import Recipe
from training.recipes import load_recipe
from training.state import TrainState
from training.step import NetworkSpec, Objective, build_step_function, initialize

CLASSES = 6
IMAGES = 4096
"""The number of images of the synthetic pack, 617 MB at 224 px. Their content does not change the speed."""
UVH26_CROPS = 252_723
"""The number of crops of UVH-26; the published runs train three networks for 100 epochs on them."""
EPOCHS = 100


def measure_loop(
    archs: tuple[str, ...], size_px: int, batch: int, steps: int, device: str, compiled: bool = False
) -> dict[str, Any]:
    """Time `steps` of the loop on a synthetic pack, which is resident on a GPU; add the hours of the published runs."""
    pack = _noise_pack(IMAGES, size_px)
    rows = [_measure(arch, pack, batch, steps, device, compiled) for arch in archs]
    rates = {row["arch"]: row["images_per_s"] for row in rows}
    return {
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
        "size_px": size_px,
        "batch": batch,
        "steps": steps,
        "augment_on": choose_place("auto", device),
        "images_per_s": rates,
        "rows": rows,
        "hours_uvh26_100_epochs": round(sum(UVH26_CROPS * EPOCHS / rate for rate in rates.values()) / 3600, 2),
    }


def _measure(arch: str, pack: Pack, batch: int, steps: int, device: str, compiled: bool) -> dict[str, Any]:
    recipe = load_recipe("after").with_overrides({"batch": str(batch)})
    size_px = pack.geometry.size_px
    mode, _ = choose_mode(arch, CLASSES, size_px, batch, device)
    options = GpuOptions(compile="yes" if compiled else "no")
    network = models.build(arch, CLASSES)
    compute = apply_rules(Compute(mode, device), options, recipe, IMAGES, size_px, network)
    loop, step = _images_per_s(arch, pack, recipe, compute, steps)
    return {
        "arch": arch,
        "mode": compute.mode.as_json(),
        "images_per_s": round(loop, 1),
        "step_alone": round(step, 1),
    }


def _images_per_s(arch: str, pack: Pack, recipe: Recipe, compute: Compute, steps: int) -> tuple[float, float]:
    """Return the rate of the whole loop, and that of the step alone, on one batch that lies on the device."""
    state, objective = initialize(NetworkSpec(arch, CLASSES), recipe, compute)
    state.network.train()
    mean, _ = models.normalization(arch)
    device = compute.device
    apply = compute.mode.compile_or_eager(gpu.augment)
    preparer = open_preparer(pack, mean, device, choose_place("auto", device), apply)
    batches = Batches(pack, recipe, 0, preparer)
    with closing(_endless(batches)) as stream:  # closing ends its thread, which would slow the next measurement
        loop = _rate(state, objective, batches, stream, steps)
        frames, labels, n = batches.finish(next(stream).copied_to(device))
    # a batch on the device already, which the preparer of the host leaves as it is
    ready = PreparedBatch((frames,), labels, n, frames.shape[1])
    batches = Batches(pack, recipe, 0, HostAugment(pack, mean))
    step = _rate(state, objective, batches, repeat(ready), steps)
    return loop, step


def _rate(
    state: TrainState, objective: Objective, batches: Batches, stream: Iterator[PreparedBatch], steps: int
) -> float:
    take_step = build_step_function(state, objective, batches)
    on_gpu = objective.compute.on_gpu
    for number in range(2 + steps):
        if number == 2:  # the first two allocate, capture and compile
            started = _now(on_gpu)
        batch = next(stream)
        state.begin_step(1e-4)
        torch.manual_seed(batches.network_seed(0, number))
        take_step(batch)
    return steps * batch.image_count / (_now(on_gpu) - started)


def _endless(batches: Batches) -> Generator[PreparedBatch, None, None]:
    for epoch in count():  # without the smaller last batch, which would be another shape
        yield from (batch for batch in batches.prepare_epoch(epoch) if batch.image_count == batches.recipe.batch)


def _noise_pack(images: int, size_px: int) -> Pack:
    """Return a pack of noise in memory, with training rows only."""
    pixels = np.random.default_rng(0).integers(0, 256, (images, size_px, size_px, 3), np.uint8)
    texts = np.full(images, "train")
    return Pack(
        path=Path(), classes=tuple(f"class {i}" for i in range(CLASSES)), background=None,
        geometry=Geometry(size_px), synthetic=True, fingerprint="noise", images_nhwc=pixels,
        labels_n=np.arange(images, dtype=np.int64) % CLASSES, splits_n=texts, groups_n=texts, sources_n=texts,
        boxes_n=(None,) * images, metadata={},
    )  # fmt: skip


def _now(on_gpu: bool) -> float:
    """Return the time when all work that was started is done."""
    if on_gpu:
        torch.cuda.synchronize()
    return perf_counter()
