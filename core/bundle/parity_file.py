"""parity.json: the figures of every gate, which compare each exported file with torch on the rows of each split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from core.bundle.contract import HINT
from core.codec import from_json, known_keys, to_json
from core.errors import InputError
from core.files import read_object, write_json

NAME = "parity.json"
SCHEMA = 2
"""Schema 1 has the key `rungs` in place of `results`; both are read."""


@dataclass(frozen=True)
class LossInterval:
    """A paired loss of accuracy with Tango's 95% interval."""

    value: float
    low_95: float
    high_95: float


@dataclass(frozen=True)
class ParityResult:
    """One exported file in one runtime against torch, on the rows of one split. dprob: a difference of probabilities.

    A difference is None where the file gives NaN or infinity.
    """

    name: str
    split: str
    rows: int
    max_dprob: float | None
    p99_dprob: float | None
    top1_agreement: float
    accuracy: float
    accuracy_loss: LossInterval
    flipped: tuple[int, ...]
    """The numbers of the rows whose top-1 differs."""
    flips: tuple[dict[str, object], ...] = ()
    """{"row", "torch", "file"} of each of these rows: class and probability on both sides; an older export has none."""
    mean_dprob: float | None = None


def write_parity(folder: Path, results: Sequence[ParityResult]) -> None:
    """Write parity.json into a bundle's folder."""
    write_json(folder / NAME, {"schema": SCHEMA, "results": to_json(results)})


def read_parity(folder: Path) -> tuple[ParityResult, ...]:
    """Return the content of a bundle's parity.json; empty without the file. Raises InputError when it is damaged."""
    file = folder / NAME
    if not file.is_file():
        return ()
    body = read_object(file, HINT)
    # a bundle of schema 1 need not be exported again
    rows = body.get("rungs" if body.get("schema") == 1 else "results")
    if not isinstance(rows, list):
        raise InputError(f"{file} holds no results: {HINT}")
    # keys that this version does not know are left out: a newer export may write more figures
    return tuple(from_json(ParityResult, known_keys(ParityResult, row), str(file)) for row in rows)
