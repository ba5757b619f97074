"""How a step computes: precision and memory format, chosen once by timing and then kept."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import models
from inference.errors import InputError
from models.deployed import Deployed

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
TIMED_BATCH = 32
ROUNDS = 3
HOPELESS = 2.5
"""A combination whose first step takes this many times the best one's is timed no further."""


@dataclass(frozen=True)
class Mode:
    """A precision (of autocast; weights stay float32) and a memory format."""

    precision: str = "fp32"
    memory_format: str = "contiguous"

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise InputError(f"precision is {self.precision!r}: give one of {', '.join(PRECISIONS)}")
        if self.memory_format not in FORMATS:
            raise InputError(f"memory_format is {self.memory_format!r}: give one of {', '.join(FORMATS)}")

    def as_json(self) -> dict[str, Any]:
        """Return both fields."""
        return asdict(self)

    def prepare(self, network: nn.Module) -> nn.Module:
        """Lay the weights out in this memory format, in place."""
        return network.to(memory_format=FORMATS[self.memory_format])

    def logits(self, deployed: Deployed, inputs_nchw: Tensor) -> Tensor:
        """Run the network on normalised inputs; return float32 (n, classes)."""
        inputs = inputs_nchw.contiguous(memory_format=FORMATS[self.memory_format])
        kind = inputs.device.type
        with torch.autocast(kind, PRECISIONS[self.precision], enabled=self.precision != "fp32"):
            logits: Tensor = deployed.network(inputs)
        return logits.float()


@dataclass
class _Candidate:
    mode: Mode
    deployed: Deployed
    optimizer: torch.optim.Optimizer
    best_ms: float = float("inf")

    def step(self, frames: Tensor, labels: Tensor) -> float:
        """Run one training step; return its milliseconds."""
        started = perf_counter()
        loss = cross_entropy(self.mode.logits(self.deployed, self.deployed.normalise(frames)), labels)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        if frames.is_cuda:
            torch.cuda.synchronize()
        return (perf_counter() - started) * 1e3


def choose_mode(
    arch: str,
    classes: int,
    size_px: int,
    batch: int,
    device: str = "cpu",
    only: tuple[str | None, str | None] = (None, None),
) -> tuple[Mode, dict[str, float]]:
    """Time a few steps of each combination, interleaved, and return the fastest and {combination: milliseconds}.

    `only` fixes a precision or a memory format. One combination left is not timed.
    """
    modes = [Mode(p, f) for p in PRECISIONS if only[0] in (None, p) for f in FORMATS if only[1] in (None, f)]
    if not modes:
        Mode(only[0] or "fp32", only[1] or "contiguous")
    if len(modes) == 1:
        return modes[0], {}
    n = min(batch, TIMED_BATCH) if device == "cpu" else batch
    frames = torch.randint(0, 256, (n, size_px, size_px, 3), dtype=torch.uint8, device=device)
    labels = torch.arange(n, device=device) % classes
    candidates = [_candidate(arch, classes, mode, device) for mode in modes]
    for candidate in candidates:
        candidate.best_ms = candidate.step(frames, labels)
    for _ in range(ROUNDS):
        best = min(c.best_ms for c in candidates)
        for candidate in candidates:
            if candidate.best_ms <= HOPELESS * best:
                candidate.best_ms = min(candidate.best_ms, candidate.step(frames, labels))
    best_of = {f"{c.mode.precision} {c.mode.memory_format}": round(c.best_ms, 1) for c in candidates}
    return min(candidates, key=lambda c: c.best_ms).mode, best_of


def _candidate(arch: str, classes: int, mode: Mode, device: str) -> _Candidate:
    network = models.build(arch, classes)
    deployed = Deployed(network, *models.normalisation(arch)).to(device)
    mode.prepare(deployed.network)
    return _Candidate(mode, deployed, torch.optim.AdamW(deployed.network.parameters(), fused=True))
