"""The mode of a step: precision and memory format, chosen once for a run, on a CPU by timing, on a GPU by a rule."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from time import perf_counter, process_time
from typing import Any, ParamSpec

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import models
from core.codec import known_keys
from core.errors import InputError
from models.deployed import DeployedNetwork
from training.compute.distribution import NOT_DISTRIBUTED, DistContext
from training.compute.weight_gradient import use_matrix_product_gradients

NetworkCall = Callable[[Tensor], Tensor]
P = ParamSpec("P")
STEP_PRECISIONS = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
MEMORY_FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
COMPILE_BACKEND = "inductor"
ROUNDS, MIN_ROUNDS = 7, 3
ROUNDS_BUDGET_S = 5.0
"""No further round begins after this time; the first MIN_ROUNDS are always completed."""
TRIAL_BATCH = 16
MAX_TRIAL_RATIO = 2.0
"""A combination slower than the best by this factor, on TRIAL_BATCH images, is not tried at full size."""
MAX_ROUND_RATIO = 2.0
"""A combination slower than the best by this factor is timed for MIN_ROUNDS only."""
MAX_COMPILED_SHAPES = 1000
"""The limit on shapes of torch.compile, whose own is 8. Beyond it a function stays eager; a resumed run starts the
count again, so it would compile where an uninterrupted run does not, and end with other bits."""


@dataclass(frozen=True)
class ComputeMode:
    """The mode of a step. The weights stay float32 in every precision."""

    precision: str = "fp32"
    """The precision of autocast. fp32 is IEEE's; tf32 rounds the factors of products to ten bits, on a GPU."""
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
        """Return the mode in a run.json, which may lack fields that came later."""
        return cls(**known_keys(cls, facts))

    def prepare(self, network: nn.Module) -> nn.Module:
        """Convert the weights to this memory format; in bf16, replace the gradient of deep layers; in place."""
        # the replaced gradient was compared with oneDNN's kernels alone, which a compiled network may not use
        if self.precision == "bf16" and self.memory_format == "channels_last" and not self.compiled:
            use_matrix_product_gradients(network)
        return network.to(memory_format=MEMORY_FORMATS[self.memory_format])

    def compile_or_eager(self, function: Callable[P, Tensor]) -> Callable[P, Tensor]:
        """Return a network or a function of tensors as it is, or wrapped by torch.compile, as the mode says."""
        if not self.compiled:
            return function
        limits = torch._dynamo.config
        limits.recompile_limit = limits.accumulated_recompile_limit = MAX_COMPILED_SHAPES
        # not dynamic: a kernel for one shape is faster, and the shapes of a run are few
        return torch.compile(function, backend=COMPILE_BACKEND, dynamic=False)

    def logits(self, network: NetworkCall, inputs_nchw: Tensor) -> Tensor:
        """Run `network` on normalized inputs; return float32 (n, classes)."""
        inputs = inputs_nchw.contiguous(memory_format=MEMORY_FORMATS[self.memory_format])
        kind = inputs.device.type
        dtype = STEP_PRECISIONS[self.precision]
        with torch.autocast(kind, dtype, enabled=dtype != torch.float32):
            logits = network(inputs)
        return logits.float()  # loss and softmax need more than the 8 bits of bf16

    def scaler(self, device: str) -> torch.amp.GradScaler:
        """Return the loss scaling that fp16 needs, where small gradients would be 0; another precision has none."""
        return torch.amp.GradScaler(torch.device(device).type, enabled=self.precision == "fp16")


@dataclass(frozen=True)
class Compute:
    """The mode of a step, the device, and the processes that share the work."""

    mode: ComputeMode
    device: str = "cpu"
    dist: DistContext = NOT_DISTRIBUTED

    @property
    def on_gpu(self) -> bool:
        """Tell whether the device is a GPU."""
        return self.device.startswith("cuda")

    def configure(self) -> None:
        """Set torch's global switches as the mode says."""
        mode = self.mode
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = mode.precision == "tf32"
        torch.backends.cudnn.benchmark = mode.cudnn_benchmark
        if mode.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # Source: PyTorch, "Reproducibility"
        torch.use_deterministic_algorithms(mode.deterministic)


def native_precisions() -> tuple[str, ...]:
    """Return the precisions that this processor computes itself; others would be emulated, ten times as slowly."""
    mkldnn = torch.ops.mkldnn
    bf16 = ("bf16",) if mkldnn._is_mkldnn_bf16_supported() else ()
    fp16 = ("fp16",) if mkldnn._is_mkldnn_fp16_supported() else ()
    return ("fp32", *bf16, *fp16)


def step_clock() -> Callable[[], float]:
    """Return the clock of a step: with one thread the processor's time, which other processes do not add to."""
    return process_time if torch.get_num_threads() == 1 else perf_counter


@dataclass
class _Candidate:
    """A mode to be timed, with a network of its own."""

    mode: ComputeMode
    deployed: DeployedNetwork
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    times_ms: list[float] = field(default_factory=list)

    @property
    def best_ms(self) -> float:
        """The least time, because other work on the machine can only add to it."""
        return min(self.times_ms)

    def step(self, frames: Tensor, labels: Tensor) -> float:
        """Run one training step; return its milliseconds."""
        clock = step_clock()
        started = clock()
        inputs = self.deployed.normalize(frames)
        loss = cross_entropy(self.mode.logits(self.deployed.network, inputs), labels)
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
    """Choose precision and memory format; return the mode, and {combination: milliseconds} of those timed.

    On a CPU steps of `batch` images are timed, the combinations in turn. `fixed` names a precision or a memory format
    that is not chosen; a single combination left is not timed. On a GPU nothing is: a captured step in bf16 and
    channels_last is the fastest there, and a clock on the host would measure the host.
    """
    precision, memory_format = fixed
    if device.startswith("cuda"):
        # bf16 has the range of float32, so no loss needs to be scaled; older GPUs compute it by detours only
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return ComputeMode(precision or ("bf16" if native else "fp16"), memory_format or "channels_last"), {}
    precisions = (precision,) if precision else native_precisions()
    formats = (memory_format,) if memory_format else tuple(MEMORY_FORMATS)
    modes = [ComputeMode(p, f) for p in precisions for f in formats]
    if len(modes) == 1:
        return modes[0], {}
    # noise serves: the time of a step does not depend on what the pixels show
    frames = torch.randint(0, 256, (batch, size_px, size_px, 3), dtype=torch.uint8)
    labels = torch.arange(batch) % classes
    candidates = _time_in_turn([_candidate(arch, classes, mode, size_px) for mode in modes], frames, labels)
    best = min(candidates, key=lambda candidate: candidate.best_ms)
    return best.mode, {str(c.mode): round(c.best_ms, 1) for c in candidates}


def _time_in_turn(candidates: list[_Candidate], frames: Tensor, labels: Tensor) -> list[_Candidate]:
    """Time the candidates in turn, so that a busy moment of the machine meets all; return those timed at full size."""
    tried = _without_hopeless(candidates, frames[:TRIAL_BATCH], labels[:TRIAL_BATCH])
    for candidate in tried:  # the first step at full size allocates its memory, and is not counted
        candidate.step(frames, labels)
    started, going = perf_counter(), tried
    for number in range(ROUNDS):
        for candidate in going:
            candidate.times_ms.append(candidate.step(frames, labels))
        if number + 1 < MIN_ROUNDS:
            continue
        # one that is far behind the best is not timed any further, but its times so far are reported
        best_ms = min(candidate.best_ms for candidate in tried)
        going = [candidate for candidate in going if candidate.best_ms <= MAX_ROUND_RATIO * best_ms]
        if len(going) == 1 or perf_counter() - started > ROUNDS_BUDGET_S:
            break
    return tried


def _without_hopeless(candidates: list[_Candidate], frames: Tensor, labels: Tensor) -> list[_Candidate]:
    """Return the candidates whose step on a small batch is not much slower than the best one's."""
    first_ms = [candidate.step(frames, labels) for candidate in candidates]
    second_ms = [candidate.step(frames, labels) for candidate in candidates]
    least_ms = [min(times) for times in zip(first_ms, second_ms, strict=True)]
    limit_ms = MAX_TRIAL_RATIO * min(least_ms)
    return [candidate for candidate, ms in zip(candidates, least_ms, strict=True) if ms <= limit_ms]


def _candidate(arch: str, classes: int, mode: ComputeMode, size_px: int | None = None) -> _Candidate:
    network = models.build(arch, classes, size_px=size_px)
    deployed = DeployedNetwork(network, *models.normalization(arch))
    mode.prepare(deployed.network)
    optimizer = torch.optim.AdamW(deployed.network.parameters(), fused=True)
    return _Candidate(mode, deployed, optimizer, mode.scaler("cpu"))
