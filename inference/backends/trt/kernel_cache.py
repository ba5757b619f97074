"""Keeps TensorRT's caches beside an engine: tactic timings and compiled kernels. A lost cache is made again.

A cache holds or selects native code, so it is bound to what it was made for by a digest. TensorRT never gets one that
is damaged or was made for something else.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from core.files import replacing

LIMIT_BYTES = 256 << 20
DIGEST_BYTES = 32


def timing_file(folder: Path, sm: int) -> Path:
    """Return the file of tactic timings, which all engines of a folder share on one kind of device."""
    return folder / f"timing.tensorrt.sm{sm}.cache"


def runtime_file(engine: Path) -> Path:
    """Return the file of the kernels that TensorRT-RTX compiled for an engine."""
    return engine.with_name(f"{engine.name}.cache")


def read_cache(path: Path, bound_to: str) -> bytes:
    """Return the cache for `bound_to`; empty when it is missing, damaged or was made for something else."""
    try:
        # before it is read: a file that was put there must not fill the memory
        if path.stat().st_size > LIMIT_BYTES:
            return b""
        data = path.read_bytes()
    except OSError:  # none yet, or on a disk that fails: it is made again
        return b""
    digest, kept = data[:DIGEST_BYTES], data[DIGEST_BYTES:]
    return kept if digest == _digest(bound_to, kept) else b""


def write_cache(path: Path, bound_to: str, kept: bytes) -> None:
    """Write a cache, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(_digest(bound_to, kept) + kept)


def _digest(bound_to: str, kept: bytes) -> bytes:
    # the zero byte ends the text, so that no other text and cache have the same bytes together
    return hashlib.sha256(bound_to.encode() + b"\0" + kept).digest()
