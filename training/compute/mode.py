"""The mode of a step: precision and memory format, chosen on a CPU by timing and on a GPU by a rule; then kept."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from time import perf_counter, process_time
from typing import Any, ParamSpec

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import models
from core.errors import InputError
from models.deployed import Deployed
from training.compute.distribution import NOT_DISTRIBUTED, DistContext
from training.compute.weight_gradient import use_matrix_product_gradients

Forward = Callable[[Tensor], Tensor]
P = ParamSpec("P")
STEP_PRECISIONS = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
MEMORY_FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
COMPILE_BACKEND = "inductor"
ROUNDS, MIN_ROUNDS = 7, 3
ROUNDS_BUDGET_S = 5.0
"""No further round begins after this, but the first three are always whole."""
TRIAL_BATCH = 16
MAX_TRIAL_RATIO = 2.0
"""A combination whose step on a small batch takes this many times the best one's is not tried at full size."""
MAX_ROUND_RATIO = 2.0
"""Nor does one go on that is behind by this after three rounds."""
MAX_COMPILED_SHAPES = 1000
"""After 8 shapes torch.compile leaves a function as it is, by itself, and a run that was resumed, whose count began
anew, would end otherwise than one that was not."""


@dataclass(frozen=True)
class ComputeMode:
    """The mode of a step. The weights stay float32 in every precision."""

    precision: str = "fp32"
    """The precision of autocast. fp32 is IEEE's; tf32 rounds factors of products to ten bits on a GPU."""
    memory_format: str = "contiguous"
    compiled: bool = False
    """torch.compile compiles the network, and augmentation on the device."""
    captured: bool = False
    """Steps are replayed as CUDA graphs."""
    cudnn_benchmark: bool = False
    """cuDNN times its kernels for each shape."""
    deterministic: bool = False
    """Two runs give the same bits."""

    def __post_init__(self) -> None:
        if self.precision not in STEP_PRECISIONS:
            raise InputError(f"precision is {self.precision!r}: give one of {', '.join(STEP_PRECISIONS)}")
        if self.memory_format not in MEMORY_FORMATS:
            raise InputError(f"memory_format is {self.memory_format!r}: give one of {', '.join(MEMORY_FORMATS)}")

    def __str__(self) -> str:
        flags = [name for name in ("compiled", "captured", "cudnn_benchmark", "deterministic") if getattr(self, name)]
        return " ".join([self.precision, self.memory_format, *flags])

    def as_json(self) -> dict[str, Any]:
        """Return every field."""
        return asdict(self)

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> ComputeMode:
        """Return the mode that stands in run.json."""
        return cls(**{item.name: facts[item.name] for item in fields(cls) if item.name in facts})

    def prepare(self, network: nn.Module) -> nn.Module:
        """Lay the weights out in this memory format, and have bf16 find deep layers' gradients its way, in place."""
        if self.precision == "bf16" and self.memory_format == "channels_last" and not self.compiled:
            use_matrix_product_gradients(network)
        return network.to(memory_format=MEMORY_FORMATS[self.memory_format])

    def compile_or_eager(self, function: Callable[P, Tensor]) -> Callable[P, Tensor]:
        """Return a network or a function of tensors as it is, or compiled by torch.compile at its first call."""
        if not self.compiled:
            return function
        limits = torch._dynamo.config
        limits.recompile_limit = limits.accumulated_recompile_limit = MAX_COMPILED_SHAPES
        return torch.compile(function, backend=COMPILE_BACKEND, dynamic=False)

    def logits(self, network: Forward, inputs_nchw: Tensor) -> Tensor:
        """Run `network` on normalized inputs; return float32 (n, classes)."""
        inputs = inputs_nchw.contiguous(memory_format=MEMORY_FORMATS[self.memory_format])
        kind = inputs.device.type
        dtype = STEP_PRECISIONS[self.precision]
        with torch.autocast(kind, dtype, enabled=dtype != torch.float32):
            logits = network(inputs)
        return logits.float()

    def scaler(self, device: str) -> torch.amp.GradScaler:
        """Return the loss scaling that fp16 needs; for another precision it does nothing."""
        return torch.amp.GradScaler(torch.device(device).type, enabled=self.precision == "fp16")


@dataclass(frozen=True)
class Compute:
    """What a network is trained with: the mode of a step, the device, and the processes that share the work."""

    mode: ComputeMode
    device: str = "cpu"
    dist: DistContext = NOT_DISTRIBUTED

    @property
    def on_gpu(self) -> bool:
        """Tell whether the device is a GPU."""
        return self.device.startswith("cuda")

    def configure(self) -> None:
        """Set torch's global switches to the mode."""
        mode = self.mode
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = mode.precision == "tf32"
        torch.backends.cudnn.benchmark = mode.cudnn_benchmark
        if mode.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # Source: PyTorch, "Reproducibility"
        torch.use_deterministic_algorithms(mode.deterministic)


def native_precisions() -> tuple[str, ...]:
    """Return the precisions that the processor computes in itself; the others it would imitate, ten times as slowly."""
    known = torch.ops.mkldnn
    return (
        "fp32",
        *(("bf16",) if known._is_mkldnn_bf16_supported() else ()),
        *(("fp16",) if known._is_mkldnn_fp16_supported() else ()),
    )


def step_clock() -> Callable[[], float]:
    """Return what to time a step by: with one thread the processor's time, of which a neighbour takes none."""
    return process_time if torch.get_num_threads() == 1 else perf_counter


@dataclass
class _Candidate:
    mode: ComputeMode
    deployed: Deployed
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    times_ms: list[float] = field(default_factory=list)

    @property
    def best_ms(self) -> float:
        """The least: what a busy machine adds is never negative."""
        return min(self.times_ms)

    def step(self, frames: Tensor, labels: Tensor) -> float:
        """Run one training step; return its milliseconds."""
        clock = step_clock()
        started = clock()
        loss = cross_entropy(self.mode.logits(self.deployed.network, self.deployed.normalize(frames)), labels)
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return (clock() - started) * 1e3


def choose_mode(
    arch: str,
    classes: int,
    size_px: int,
    batch: int,
    device: str = "cpu",
    fixed: tuple[str | None, str | None] = (None, None),
) -> tuple[ComputeMode, dict[str, float]]:
    """Time steps of `batch` images in each combination, interleaved; return the fastest and {combination: ms}.

    `fixed` names a precision or a memory format. One combination left is not timed, nor is anything on a GPU: there a
    captured step in bf16 and channels_last is the fastest, and what the host times is itself.
    """
    if device.startswith("cuda"):
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return ComputeMode(fixed[0] or ("bf16" if native else "fp16"), fixed[1] or "channels_last"), {}
    modes = [
        ComputeMode(p, f)
        for p in ((fixed[0],) if fixed[0] else native_precisions())
        for f in ((fixed[1],) if fixed[1] else MEMORY_FORMATS)
    ]
    if len(modes) == 1:
        return modes[0], {}
    frames = torch.randint(0, 256, (batch, size_px, size_px, 3), dtype=torch.uint8)
    labels = torch.arange(batch) % classes
    candidates = _timed([_candidate(arch, classes, one, size_px) for one in modes], frames, labels)
    best = min(candidates, key=lambda one: one.best_ms)
    return best.mode, {str(one.mode): round(one.best_ms, 1) for one in candidates}


def _timed(candidates: list[_Candidate], frames: Tensor, labels: Tensor) -> list[_Candidate]:
    """Time the combinations in turn, so that a noisy neighbour meets them all; return those that were worth it."""
    few, of_few = frames[:TRIAL_BATCH], labels[:TRIAL_BATCH]
    first = [one.step(few, of_few) for one in candidates]
    small = [(min(ms, one.step(few, of_few)), one) for ms, one in zip(first, candidates, strict=True)]
    limit = MAX_TRIAL_RATIO * min(ms for ms, _ in small)
    tried = [one for ms, one in small if ms <= limit]
    for one in tried:  # the first step at full size is slower, and is not counted
        one.step(frames, labels)
    started, going = perf_counter(), tried
    for number in range(ROUNDS):
        for one in going:
            one.times_ms.append(one.step(frames, labels))
        if number + 1 >= MIN_ROUNDS:
            best = min(one.best_ms for one in tried)
            going = [one for one in going if one.best_ms <= MAX_ROUND_RATIO * best]
            if len(going) == 1 or perf_counter() - started > ROUNDS_BUDGET_S:
                break
    return tried


def _candidate(arch: str, classes: int, mode: ComputeMode, size_px: int | None = None) -> _Candidate:
    network = models.build(arch, classes, size_px=size_px)
    deployed = Deployed(network, *models.normalization(arch))
    mode.prepare(deployed.network)
    optimizer = torch.optim.AdamW(deployed.network.parameters(), fused=True)
    return _Candidate(mode, deployed, optimizer, mode.scaler("cpu"))
