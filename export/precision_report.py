"""The precision report: each exported file compared with torch, the outcome of each precision, and every engine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from export.verify.parity import first_failure

Result = dict[str, Any]
"""The object that `python -m export --json` prints for one architecture."""
Cells = list[str]


def as_markdown(results: Sequence[Result]) -> str:
    """Return three Markdown tables: every file against torch, the outcome of each precision, and the engines."""
    parity = [
        "architecture",
        "file",
        "split",
        "max dprob",
        "p99",
        "mean",
        "top-1 equal",
        "accuracy",
        "loss, points [95%]",
    ]
    # an architecture whose export failed has no parity
    parity_rows = [_parity_row(result["arch"], file) for result in results for file in result.get("parity", ())]
    tables = [
        _table(parity, parity_rows),
        _table(["architecture", "precision", "outcome"], [row for result in results for row in _outcomes(result)]),
    ]
    if engines := [_engine_row(result["arch"], engine) for result in results for engine in result["engines"]]:
        tables.append(_table(["architecture", "precision", "runtime", "target", "MiB", "seconds"], engines))
    return "\n".join(tables)


def _parity_row(arch: str, file: dict[str, Any]) -> Cells:
    # JSON has no NaN, so parity.json holds null for it
    distances = [math.nan if file[name] is None else file[name] for name in ("max_dprob", "p99_dprob", "mean_dprob")]
    low, value, high = (100 * file["accuracy_loss"][name] for name in ("low_95", "value", "high_95"))
    return [
        arch,
        file["name"],
        file["split"],
        *(f"{distance:.1e}" for distance in distances),
        *(f"{file[name]:.2%}" for name in ("top1_agreement", "accuracy")),
        f"{value:+.2f} [{low:+.2f}, {high:+.2f}]",
    ]


def _outcomes(result: Result) -> list[Cells]:
    """Return a row for each precision, and one for the bundle."""
    arch = result["arch"]
    if not result["bundle"]:
        return [[arch, "all", f"refused: {result['failed'][0]}"]]
    rows = []
    for name, gate in result["gates"].items():
        outcome = _made_of(gate) if gate["passed"] else _refused(gate)
        rows.append([arch, name, outcome])
    return [*rows, [arch, "bundle", result["bundle"]]]


def _refused(gate: dict[str, Any]) -> str:
    """Return the check that failed, and what the int8 search tried."""
    steps = [step["tried"] for step in gate.get("search", ())]
    return f"refused: {first_failure(gate)}" + (f"; tried {'; '.join(steps)}" if steps else "")


def _made_of(gate: dict[str, Any]) -> str:
    """Return what a passed precision is made of: its ranges, equalized layers, and layers in float."""
    said = ["passed"]
    if "method" in gate:
        said.append(f"ranges by {gate['method']}")
    if equalized := gate.get("equalised"):
        said.append(f"{len(equalized)} layers equalized")
    for key, what in (("kept_float", "given back to float"), ("float_layers", "layers compute in float")):
        if names := list(gate.get(key, ())):
            said.append(f"{len(names)} {what} ({', '.join(names[:6])})")
    return "; ".join(said)


def _engine_row(arch: str, row: dict[str, Any]) -> Cells:
    built = row["state"] != "not built"
    made = [f"{row['bytes'] / 2**20:.2f}", f"{row['seconds']:.1f}"] if built else ["not built", row["reason"]]
    return [arch, row["precision"], row["runtime"], row["target"], *made]


def _table(heads: Cells, rows: Sequence[Cells]) -> str:
    """Return a Markdown table whose columns are aligned, for a terminal too."""
    # a bar would end the cell: the checks are named "max |dprob|"
    rows = [[cell.replace("|", "/") for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    lines = [heads, ["-" * width for width in widths], *rows]
    text = ""
    for line in lines:
        padded = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        text += f"| {' | '.join(padded)} |\n"
    return text
