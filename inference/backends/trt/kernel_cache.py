"""Caches that TensorRT makes beside an engine: what tactics took, what kernels were compiled. Lost, they are made anew.

They hold or decide native code, so each is bound to what it was made for, and one that is damaged or of something
else is not given to TensorRT.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from core.bundle.contract import Bundle
from core.bundle.engine_manifest import FOLDER
from core.files import replacing

LIMIT_BYTES = 256 << 20
DIGEST_BYTES = 32


def timing_file(bundle: Bundle, sm: int) -> Path:
    """Return where the tactics that TensorRT timed are kept, for all precisions of a bundle on one kind of device."""
    return bundle.path / FOLDER / f"timing.tensorrt.sm{sm}.cache"


def runtime_file(engine: Path) -> Path:
    """Return where the kernels that TensorRT-RTX compiled for an engine are kept."""
    return engine.with_name(f"{engine.name}.cache")


def read_cache(path: Path, bound_to: str) -> bytes:
    """Return what was kept for `bound_to`; nothing when it is missing, damaged or of something else."""
    try:
        if path.stat().st_size > LIMIT_BYTES:
            return b""
        data = path.read_bytes()
    except OSError:
        return b""
    digest, kept = data[:DIGEST_BYTES], data[DIGEST_BYTES:]
    return kept if digest == _digest(bound_to, kept) else b""


def write_cache(path: Path, bound_to: str, kept: bytes) -> None:
    """Keep a cache, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(_digest(bound_to, kept) + kept)


def _digest(bound_to: str, kept: bytes) -> bytes:
    return hashlib.sha256(bound_to.encode() + b"\0" + kept).digest()
