"""The machine and the device that the figures belong to: `python -m tests.gpu.machine DEVICE` prints JSON.

A process of its own asks torch, so that the check itself holds nothing on the GPU while others are timed there.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import tomllib

from core.cli import run_command
from core.errors import InputError
from core.machine import cores, versions

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


def examine(device: str) -> dict[str, Any]:
    """Return processor, device, driver and versions. Raises InputError where torch cannot compute on the device."""
    import torch  # here, so that a machine without it is told so in one sentence

    from training.reports.machine import check_device, current_commit, describe_machine

    if device.startswith("cuda") and not torch.cuda.is_available():
        raise InputError(
            f"torch {torch.__version__} sees no CUDA device on this machine: run it where there is one, or prove the "
            "check itself with --device cpu"
        )
    check_device(device)
    wanted = wanted_packages()
    found, (head, dirty) = versions(wanted), current_commit()
    return describe_machine(device) | {
        "commit": head,
        "dirty": dirty,
        "cores": cores(),
        "driver": _driver() if device.startswith("cuda") else "none used",
        "cuda": torch.version.cuda,
        "packages": found,
        "missing": [name for name in wanted if name not in found],
    }


def wanted_packages() -> list[str]:
    """Return the names of all packages that pyproject.toml asks for, but for development."""
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    groups = [project["dependencies"], *(project["optional-dependencies"][name] for name in ("train", "edge", "gpu"))]
    return list(dict.fromkeys(re.split(r"[\[<>=~! ]", line)[0] for group in groups for line in group))


def _driver() -> str:
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return "not known: nvidia-smi does not answer"


if __name__ == "__main__":
    raise SystemExit(run_command(lambda: print(json.dumps(examine(sys.argv[1])))))
