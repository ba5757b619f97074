"""The machine, the versions and the commit of a run, as run.json holds them."""

from __future__ import annotations

import platform
import resource
import subprocess
from pathlib import Path
from typing import Any

import torch

from core.errors import InputError
from core.machine import cpu_model, versions

PACKAGES = ("torch", "torchvision", "timm", "numpy", "opencv-python-headless", "safetensors")
REPOSITORY = Path(__file__).resolve().parents[2]


def current_commit() -> tuple[str, bool]:
    """Return the commit of the repository, and whether files differ from it; ("unknown", True) without git."""
    try:
        head = _git("rev-parse", "HEAD")
        return head, bool(_git("status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.CalledProcessError):
        return "unknown", True


def check_device(device: str) -> None:
    """Raise InputError when torch cannot compute on `device`."""
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).split(". ")[0].splitlines()[0]
        raise InputError(f"--device {device} cannot be used on this machine ({reason}): use --device cpu") from None


def describe_machine(device: str) -> dict[str, Any]:
    """Return processor, device, threads and versions."""
    return {
        "host_cpu": cpu_model(),
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else "cpu",
        "threads": torch.get_num_threads(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": versions(PACKAGES),
    }


def peak_memory_mb(device: str) -> float:
    """Return the peak memory of this process in MB (10^6 bytes), on the GPU if one is used."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device) / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6  # Linux counts in KiB


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(REPOSITORY), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
