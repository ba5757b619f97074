"""The speed of the training step against a baseline, PyTorch with its defaults.

The baseline is eager, float32 and contiguous, with torch's AdamW, in a process that `python -m training` did not
launch, so that glibc's allocator and OpenMP have their defaults too; its inputs are normalized floats. Ours is
`train_step` on uint8, in the mode that training would choose, in a process as launched. Both have the same threads,
network, batch, clipping and loss, and one process waits while the other steps. With one thread the processor's time is
measured, page faults included, to which other processes add nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import models
from core.errors import CheckError
from core.timing import interleave
from training.__main__ import LAUNCH
from training.batches import Batch
from training.compute.mode import Compute, ComputeMode, choose_mode, step_clock
from training.recipes import load_recipe
from training.step import NetworkSpec, initialize, train_step

CLASSES = 6
ROUNDS = 15
BASELINE_DESCRIPTION = "eager fp32 contiguous, torch.optim.AdamW, glibc malloc, no launcher"


def measure_steps(
    archs: tuple[str, ...],
    size_px: int,
    batch: int,
    threads: int | None = None,
    rounds: int = ROUNDS,
    *,
    compiled: bool = False,
) -> list[dict[str, Any]]:
    """Time both steps of each network, interleaved; return the medians and the median of the ratios."""
    threads = threads or torch.get_num_threads()
    return [_measure(arch, rounds, size_px, batch, threads, compiled) for arch in archs]


def _measure(arch: str, rounds: int, size_px: int, batch: int, threads: int, compiled: bool) -> dict[str, Any]:
    spec = arch, size_px, batch, threads, compiled
    with _Stepper("ours", spec) as ours, _Stepper("baseline", spec) as baseline:
        seconds = list(islice(interleave([ours.step, baseline.step]), rounds))
    return {
        "arch": arch,
        "size_px": size_px,
        "batch": batch,
        "threads": threads,
        "mode": ours.mode,
        **compare_rates(batch, seconds),
        "twin": BASELINE_DESCRIPTION,
        "rounds": rounds,
        "clock": "processor" if threads == 1 else "wall",
    }


def compare_rates(images: int, seconds: list[list[float]]) -> dict[str, float]:
    """Return the medians of both rates and of their ratio, from the seconds of ours and the baseline in each round."""
    ours, baseline = np.array(seconds).T
    # the median of ratios of one round each: what slows the machine for a round slows both sides
    return {
        "ratio": round(float(np.median(baseline / ours)), 2),
        "images_per_s": round(images / float(np.median(ours)), 1),
        "twin_images_per_s": round(images / float(np.median(baseline)), 1),
    }


class _Stepper:
    """A process that takes a training step on each request."""

    def __init__(self, role: str, spec: tuple[str, int, int, int, bool]) -> None:
        # the launcher's variables act when a process starts, so each side is a process of its own
        inherited = {name: value for name, value in os.environ.items() if name not in LAUNCH}
        environment = inherited | {"OMP_NUM_THREADS": str(spec[3])} | (LAUNCH if role == "ours" else {})
        command = [sys.executable, "-m", "training.bench.step_speed", role, json.dumps(spec)]
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.mode: dict[str, Any] = {}

    def __enter__(self) -> _Stepper:
        self.mode = self._receive()
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate()  # the end of its stdin ends it

    def step(self) -> float:
        """Let the process take a step; return its seconds."""
        assert self.process.stdin
        self.process.stdin.write("step\n")
        self.process.stdin.flush()
        return float(self._receive())

    def _receive(self) -> Any:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise CheckError(f"the process that was timed has ended with exit code {self.process.wait()}")
        return json.loads(line)


def _ours(arch: str, size_px: int, batch: int, compiled: bool) -> tuple[ComputeMode, Callable[[], object]]:
    mode = replace(choose_mode(arch, CLASSES, size_px, batch)[0], compiled=compiled)
    state, objective = initialize(NetworkSpec(arch, CLASSES), load_recipe("after"), Compute(mode))
    state.network.train()
    state.begin_step(1e-4)
    frames = torch.randint(0, 256, (batch, size_px, size_px, 3), dtype=torch.uint8)
    labels = torch.arange(batch) % CLASSES
    return mode, lambda: train_step(state, objective, Batch(frames, labels, batch))


def _baseline(arch: str, size_px: int, batch: int, _: bool) -> tuple[ComputeMode, Callable[[], object]]:
    recipe = load_recipe("after")
    network = models.build(arch, CLASSES, dropout=recipe.dropout_of(arch)).train()
    optimizer = torch.optim.AdamW(network.parameters(), 1e-4, weight_decay=recipe.weight_decay)
    inputs = torch.randn(batch, 3, size_px, size_px)
    labels = torch.arange(batch) % CLASSES

    def step() -> float:
        optimizer.zero_grad()
        loss = cross_entropy(network(inputs), labels, label_smoothing=recipe.label_smoothing)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), recipe.clip_norm)
        optimizer.step()
        return loss.item()

    return ComputeMode(), step


def _serve(role: str, spec: list[Any]) -> None:
    """Prepare the step, print its mode, then take a step for each line on stdin and print its seconds."""
    arch, size_px, batch, threads, compiled = spec
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    mode, step = (_ours if role == "ours" else _baseline)(arch, size_px, batch, compiled)
    for _ in range(2):  # the first two allocate memory and choose kernels
        step()
    print(json.dumps(mode.as_json()), flush=True)
    clock = step_clock()  # in this process: its time includes what the allocator does
    for _ in sys.stdin:
        started = clock()
        step()
        print(clock() - started, flush=True)


if __name__ == "__main__":
    _serve(sys.argv[1], json.loads(sys.argv[2]))
