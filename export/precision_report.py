"""The ladder in words: every rung that was climbed, what was refused and why, every engine or what stopped it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from export.verify.parity import breach

Result = dict[str, Any]
"""What `python -m export --json` prints of one architecture."""


def as_table(results: Sequence[Result]) -> str:
    """Return one line a rung and an engine, for a terminal."""
    lines = [
        f"{'architecture':24} {'rung':14} {'split':6} {'max |dp|':>9} {'p99':>8} {'mean':>8} {'top-1 =':>8} "
        f"{'accuracy':>8}  loss, points [95%]"
    ]
    for result in results:
        for rung in result.get("rungs", []):
            lines.append(
                f"{result['arch']:24} {rung['name']:14} {rung['split']:6} {_number(rung['max_dprob']):9.2e} "
                f"{_number(rung['p99_dprob']):8.1e} {_number(rung['mean_dprob']):8.1e} {rung['top1_agreement']:8.2%} "
                f"{rung['accuracy']:8.2%}  {_points(rung)}"
            )
        lines += [_engine_line(result["arch"], row) for row in result["engines"]]
        lines.append(f"{result['arch']:24} -> {result['bundle'] or 'no bundle'}")
    return "\n".join(lines)


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _points(rung: dict[str, Any]) -> str:
    loss = rung["accuracy_loss"]
    return f"{100 * loss['value']:+.2f} [{100 * loss['low_95']:+.2f}, {100 * loss['high_95']:+.2f}]"


def _engine_line(arch: str, row: dict[str, Any]) -> str:
    what = f"{arch:24} engine {row['precision']} {row['runtime']} {row['target']}: {row['state']}"
    if row["state"] == "not built":
        return what
    return f"{what}, {row['bytes'] / 2**20:.1f} MiB in {row['seconds']:.1f} s"


def as_markdown(results: Sequence[Result]) -> str:
    """Return the rungs on val, the fate of each precision, and the engines, as three Markdown tables."""
    parts = [
        _markdown(
            ["architecture", "rung", "max dprob", "p99", "mean", "top-1 equal", "accuracy", "loss, points [95%]"],
            [_rung_cells(r["arch"], rung) for r in results for rung in r.get("rungs", []) if rung["split"] == "val"],
        ),
        _markdown(["architecture", "precision", "fate"], [cells for result in results for cells in _fates(result)]),
    ]
    engines = [_engine_cells(result["arch"], row) for result in results for row in result["engines"]]
    if engines:
        parts.append(_markdown(["architecture", "precision", "runtime", "target", "MiB", "seconds"], engines))
    return "\n".join(parts)


def _rung_cells(arch: str, rung: dict[str, Any]) -> list[str]:
    distances = [f"{_number(rung[name]):.1e}" for name in ("max_dprob", "p99_dprob", "mean_dprob")]
    shares = [f"{rung[name]:.2%}" for name in ("top1_agreement", "accuracy")]
    return [arch, rung["name"], *distances, *shares, _points(rung)]


def _fates(result: Result) -> list[list[str]]:
    """Return a row a precision: passed and how, or refused and why."""
    if not result["bundle"]:
        return [[result["arch"], "all", f"refused: {result['failed'][0]}"]]
    return [
        [result["arch"], precision, _how(gates) if gates["passed"] else f"refused: {breach(gates)}{_tried(gates)}"]
        for precision, gates in result["gates"].items()
    ]


def _tried(gates: dict[str, Any]) -> str:
    """Say what the search tried before it gave up; nothing where there was none."""
    steps = [step["tried"] for step in gates.get("search", ())]
    return f"; tried {'; '.join(steps)}" if steps else ""


def _how(gates: dict[str, Any]) -> str:
    """Say what a passed precision is made of."""
    told = ["passed"]
    if "method" in gates:
        told.append(f"ranges by {gates['method']}")
    for key, words in (("equalised", "layers equalised"), ("kept_float", "given back to float"),
                       ("float_layers", "layers compute in float")):  # fmt: skip
        if gates.get(key):
            few = ", ".join(list(gates[key])[:6])
            told.append(f"{len(gates[key])} {words}" + ("" if key == "equalised" else f" ({few})"))
    return "; ".join(told)


def _engine_cells(arch: str, row: dict[str, Any]) -> list[str]:
    known = [arch, row["precision"], row["runtime"], row["target"]]
    if row["state"] == "not built":
        return [*known, "not built", row["reason"]]
    return [*known, f"{row['bytes'] / 2**20:.2f}", f"{row['seconds']:.1f}"]


def _markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "/") for cell in line) + " |" for line in lines) + "\n"
