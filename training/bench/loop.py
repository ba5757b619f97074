"""How fast the whole loop is on a device, with everything that training does: batches, augmentation, steps."""

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
from training.batches import Batch, Batches
from training.compute.mode import Compute, ComputeMode, choose_mode
from training.prepare import choose_place, open_preparer
from training.recipes import named
from training.state import TrainState
from training.step import NetworkSpec, Objective, start, train_step

CLASSES = 6
IMAGES = 4096
"""Of the synthetic pack: 617 MB at 224 px. Which image it is does not change the speed."""
UVH26_ROWS = 252_723
"""Source: UVH-26's crops; the published runs take 100 epochs of them for each of three networks."""
EPOCHS = 100
TRIED_BATCHES = (128, 256, 512, 1024)


def measure_loop(archs: tuple[str, ...], size_px: int, batch: int, steps: int, device: str) -> dict[str, Any]:
    """Time `steps` of the loop on a synthetic pack, on a GPU resident there; add the hours of the published job.

    On a GPU the step is bf16 channels_last, and larger batches are tried too; on a CPU it is the fastest.
    """
    pack = _synthetic(IMAGES, size_px)
    batches = tuple(b for b in TRIED_BATCHES if b > batch) if device.startswith("cuda") else ()
    rows = [_measure(arch, pack, (batch, *batches), steps, device) for arch in archs]
    return {
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
        "size_px": size_px,
        "batch": batch,
        "augment_on": choose_place("auto", device),
        "images_per_s": {row["arch"]: row["by_batch"][str(batch)] for row in rows},
        "rows": rows,
        "hours_uvh26_100_epochs": _hours([row["by_batch"][str(batch)] for row in rows]),
        "hours_at_best_batch": _hours([max(row["by_batch"].values()) for row in rows]),
    }


def _measure(arch: str, pack: Pack, batches: tuple[int, ...], steps: int, device: str) -> dict[str, Any]:
    if device.startswith("cuda"):
        mode = ComputeMode("bf16", "channels_last")
    else:
        mode, _ = choose_mode(arch, CLASSES, pack.geometry.size_px, batches[0], device)
    loop, step = {}, {}
    for n in batches:
        try:
            rates = _images_per_s(arch, pack, n, steps, device, mode)
        except torch.OutOfMemoryError:
            break
        loop[str(n)], step[str(n)] = (round(rate, 1) for rate in rates)
    return {"arch": arch, "mode": mode.as_json(), "by_batch": loop, "step_alone": step}


def _images_per_s(arch: str, pack: Pack, batch: int, steps: int, device: str, mode: ComputeMode) -> tuple[float, float]:
    """Return the rate of the whole loop, and that of the step alone, on one batch that lies on the device."""
    recipe = named("after").with_overrides({"batch": str(batch)})
    state, objective = start(NetworkSpec(arch, CLASSES), recipe, Compute(mode, device))
    state.network.train()
    preparer = open_preparer(pack, models.normalisation(arch)[0], device, choose_place("auto", device))
    with closing(_endless(Batches(pack, recipe, 0, preparer))) as stream:
        loop = _rate(state, objective, stream, steps)
        one_batch = Batch(*next(stream).to(device), batch)
    return loop, _rate(state, objective, repeat(one_batch), steps)


def _rate(state: TrainState, objective: Objective, batches: Iterator[Batch], steps: int) -> float:
    on_gpu = objective.compute.on_gpu
    state.begin_step(1e-4)
    for number in range(2 + steps):
        if number == 2:  # the first two are slower
            started = _now(on_gpu)
        batch = next(batches)
        train_step(state, objective, batch)
    return steps * batch.images / (_now(on_gpu) - started)


def _endless(batches: Batches) -> Generator[Batch, None, None]:
    for epoch in count():
        yield from (batch for batch in batches.epoch(epoch) if batch.images == batches.recipe.batch)


def _synthetic(images: int, size_px: int) -> Pack:
    """Return a pack of noise that lies in memory, all of it to be trained on."""
    pixels = np.random.default_rng(0).integers(0, 256, (images, size_px, size_px, 3), np.uint8)
    texts = np.full(images, "train")
    return Pack(
        path=Path(), classes=tuple(f"class {i}" for i in range(CLASSES)), background=None,
        geometry=Geometry(size_px), synthetic=True, fingerprint="noise", images_nhwc=pixels,
        labels_n=np.arange(images, dtype=np.int64) % CLASSES, splits_n=texts, groups_n=texts, sources_n=texts,
        boxes_n=(None,) * images, facts={},
    )  # fmt: skip


def _hours(rates: list[float]) -> float:
    return round(sum(UVH26_ROWS * EPOCHS / rate for rate in rates) / 3600, 2)


def _now(on_gpu: bool) -> float:
    if on_gpu:
        torch.cuda.synchronize()
    return perf_counter()
