"""Backends: one file each, found by its name. A backend opens one file of a bundle and runs it."""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.contract import Bundle
from inference.errors import InputError
from inference.preprocess import Bytes

Probs = NDArray[np.float32]


class NotHereError(InputError):
    """The machine cannot run a precision; nothing is wrong with the file."""


@dataclass(frozen=True)
class Presence:
    """Whether a backend can run on this machine: `here`, else `reason` and the one command that mends it."""

    here: bool
    version: str
    reason: str = ""
    mend: str = ""


class Backend(ABC):
    """An open model. Not thread-safe: one thread opens it, uses it and closes it."""

    input_nhwc: Bytes
    """uint8 (batch, S, S, 3), owned by the backend (pinned where that helps): geometry writes straight into it."""

    @abstractmethod
    def infer(self, n: int) -> Probs:
        """Run the first `n` rows of `input_nhwc`; return float32 (n, classes), overwritten by the next call."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return what runs: {"backend", "runtime", "version", "device", "precision", "file", "threads"}."""

    @abstractmethod
    def close(self) -> None:
        """Free the runtime's resources; the backend cannot be used afterwards."""


def names() -> list[str]:
    """Return the backends there are, by file name."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


def find(name: str) -> ModuleType:
    """Import the backend `name`.

    Each module has `PRECISIONS: tuple[str, ...]`, `presence() -> Presence` and
    `open_backend(bundle, precision, *, batch=1, threads=None) -> Backend`.
    Raises InputError naming the backends there are.
    """
    if name not in names():
        raise InputError(f"there is no backend {name!r}: choose from {', '.join(names())}")
    return importlib.import_module(f"{__name__}.{name}")


def open_backend(name: str, bundle: Bundle, precision: str, *, batch: int = 1, threads: int | None = None) -> Backend:
    """Open `precision` of `bundle` on the backend `name`. Raises InputError when it is not here or not able."""
    module = find(name)
    presence: Presence = module.presence()
    if not presence.here:
        raise InputError(f"the backend {name} is not here ({presence.reason}): {presence.mend}")
    if precision not in module.PRECISIONS:
        raise InputError(
            f"the backend {name} has no precision {precision!r}: choose from {', '.join(module.PRECISIONS)}"
        )
    opened: Backend = module.open_backend(bundle, precision, batch=batch, threads=threads)
    return opened
