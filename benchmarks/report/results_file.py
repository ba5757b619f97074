"""results.json: the results and the choice of each device. The choice can be made again from the file alone."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.choose.choice import SCHEMA, ChoiceResult
from benchmarks.results.run import RunResults
from core.codec import from_json, schema_of, to_json
from core.errors import InputError
from core.files import read_object, write_json, write_text

HINT = "measure the run again with `python -m benchmarks`"
NUMBERS = re.compile(r"\[\n\s*([-+.\deE,\s]+?)\s*\]")
"""A list of plain numbers in indented JSON."""


@dataclass(frozen=True)
class DeviceReport:
    """The results of one device and the choice that was made of them."""

    results: RunResults
    choice: ChoiceResult


@dataclass(frozen=True)
class ResultsFile:
    """The body of results.json."""

    schema: int
    devices: tuple[DeviceReport, ...]


def read_reports(file: Path) -> tuple[DeviceReport, ...]:
    """Read results.json, of one device or merged. Raises InputError when it is of another schema or damaged."""
    body = read_object(file, HINT, SCHEMA)
    devices = from_json(ResultsFile, body, str(file)).devices
    if not devices:
        raise InputError(f"{file} holds no device: {HINT}")
    return devices


def write_reports(folder: Path, devices: Sequence[DeviceReport]) -> None:
    """Write results.json, and results.schema.json, the JSON Schema of it."""
    body = json.dumps(to_json(ResultsFile(SCHEMA, tuple(devices))), indent=1, allow_nan=False)
    lines = NUMBERS.sub(lambda found: f"[{' '.join(found[1].split())}]", body)  # a list of numbers on one line
    write_text(folder / "results.json", lines + "\n")
    write_json(folder / "results.schema.json", schema_of(ResultsFile))
