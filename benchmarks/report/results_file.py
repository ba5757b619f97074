"""results.json: the results and the choice of each device; from the file alone a choice can be made again."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.choose.choice import ChoiceResult
from benchmarks.results.run import RunResults
from core.codec import from_json, schema_of, to_json
from core.errors import InputError
from core.files import read_object, write_json, write_text

SCHEMA = 3
"""Schema 2, which is still read, also held the confusion matrices. They follow from the answers, and for 1,000 classes
they were most of the file."""
HINT = "measure the run again with `python -m benchmarks`"
NUMBERS = re.compile(r"\[\n\s*([-+.\deE,\s]+?)\s*\]")
"""A list of plain numbers in indented JSON."""


@dataclass(frozen=True)
class DeviceReport:
    """The results of one device and the choice from them."""

    results: RunResults
    choice: ChoiceResult


@dataclass(frozen=True)
class ResultsFile:
    """The content of results.json."""

    schema: int
    devices: tuple[DeviceReport, ...]


def read_reports(file: Path) -> tuple[DeviceReport, ...]:
    """Read results.json of one device or of several. Raises InputError for another schema or a damaged file."""
    body = read_object(file, HINT)
    # results are kept as baselines of later runs, so the older schema is read
    if body.get("schema") == 2:
        body = _upgrade(body)
    if body.get("schema") != SCHEMA:
        raise InputError(f"{file} has schema {body.get('schema')!r}, this version reads 2 and {SCHEMA}: {HINT}")
    devices = from_json(ResultsFile, body, str(file)).devices
    if not devices:
        raise InputError(f"{file} holds no device: {HINT}")
    return devices


def _upgrade(body: dict[str, Any]) -> dict[str, Any]:
    """Turn the body of schema 2 into that of SCHEMA."""
    with suppress(KeyError, TypeError, AttributeError):  # a damaged body is left to from_json, which names the key
        for device in body["devices"]:
            for result in device["results"]["candidates"]:
                result["accuracy"].pop("confusion", None)
    return body | {"schema": SCHEMA}


def write_reports(folder: Path, devices: Sequence[DeviceReport]) -> None:
    """Write results.json, and its JSON Schema, results.schema.json."""
    body = json.dumps(to_json(ResultsFile(SCHEMA, tuple(devices))), indent=1, allow_nan=False)
    # indented, for a diff; but one number on each line would make most of the lines
    lines = NUMBERS.sub(lambda found: f"[{' '.join(found[1].split())}]", body)
    write_text(folder / "results.json", lines + "\n")
    write_json(folder / "results.schema.json", schema_of(ResultsFile))
