"""The installed TensorRT runtimes, and what each of them builds for and runs on."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from core.errors import InputError
from inference import cuda_device

RUNTIMES = ("tensorrt", "tensorrt_rtx")
RTX_TARGETS = "compute capabilities, 86 for 8.6, one of 75, 80, 86, 89, 120, 121"
"""What TensorRT-RTX builds for. Source: its support matrices; a version names its own when it refuses one."""
INSTALL = "pip install tensorrt-rtx-cu13, or tensorrt from NVIDIA's index"


@dataclass(frozen=True)
class Target:
    """The runtime that builds an engine, and the device it is built for."""

    runtime: str
    """One of RUNTIMES."""
    trt: Any
    """Its module."""
    sm: int
    """Compute capability, 86 for 8.6."""
    device: cuda_device.Device | None
    """The device of this machine; None where there is none."""


def installed_runtimes() -> list[str]:
    """Return which of RUNTIMES are installed."""
    return [name for name in RUNTIMES if find_spec(name) is not None]


def supports(runtime: str, trt: Any, sm: int) -> bool:
    """Return whether a runtime has kernels for a compute capability, as far as can be known without a build."""
    if runtime == "tensorrt_rtx":
        return f"SM{sm}" in trt.ComputeCapability.__members__
    # Source: TensorRT's support matrices: Volta until 10.4, Turing and later since
    major, minor = (int(part) for part in trt.__version__.split(".")[:2])
    return sm >= (75 if (major, minor) >= (10, 5) else 70)


def supporting_runtimes(sm: int) -> list[str]:
    """Return which of the installed runtimes have kernels for a compute capability."""
    return [name for name in installed_runtimes() if supports(name, import_runtime(name), sm)]


def import_runtime(runtime: str) -> Any:
    """Import a runtime. Raises InputError when it is not one of RUNTIMES or not installed."""
    if runtime not in RUNTIMES:
        raise InputError(f"there is no runtime {runtime!r}: choose from {', '.join(RUNTIMES)}")
    if runtime not in installed_runtimes():
        raise InputError(f"{runtime} is not installed: {INSTALL}")
    return importlib.import_module(runtime)


def choose_target(runtime: str | None, sm: int | None) -> Target:
    """Return what is built for; runtime, sm: None for what this machine has.

    Raises InputError when this machine cannot build for it: asked before an export, which takes minutes.
    """
    device = None if cuda_device.unavailable_reason() else cuda_device.device()
    name = runtime or _default_runtime(sm, device)
    trt = import_runtime(name)
    return Target(name, trt, _capability(name, trt, sm, device), device)


def _default_runtime(sm: int | None, device: cuda_device.Device | None) -> str:
    """Return the first installed runtime that builds for the target: TensorRT itself builds on its device alone."""
    able = installed_runtimes()
    if not able:
        raise InputError(f"neither tensorrt nor tensorrt_rtx is installed: {INSTALL}")
    if device is None and "tensorrt_rtx" in able:
        able = ["tensorrt_rtx"]
    target = sm or (device.sm if device else None)
    for name in able:
        if target is None or supports(name, import_runtime(name), target):
            return name
    return able[0]


def _capability(name: str, trt: Any, sm: int | None, device: cuda_device.Device | None) -> int:
    """Return the compute capability to build for."""
    if name == "tensorrt":
        if device is None:
            raise InputError(
                f"tensorrt builds only on a device: {cuda_device.unavailable_reason()}; use --runtime tensorrt_rtx"
            )
        if sm not in (None, device.sm):
            raise InputError(f"tensorrt builds for the device that is here (sm{device.sm}), not for sm{sm}")
        return device.sm
    if sm is None:
        if device is None:
            raise InputError(f"{cuda_device.unavailable_reason()}: name the target of the engine, for example --sm 86")
        sm = device.sm
    if not supports(name, trt, sm):
        known = sorted(int(key.removeprefix("SM")) for key in trt.ComputeCapability.__members__ if key.startswith("SM"))
        raise InputError(f"{name} {trt.__version__} has no target sm{sm}: choose from {', '.join(map(str, known))}")
    return sm
