"""Time the precisions of a run's bundles against fp32, interleaved, and say in words what each buys here."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from export.speed import CLOCKS, Speed, time_bundle
from inference import backends
from inference.commands import Parser
from inference.contract import open_bundle
from inference.errors import InputError
from inference.runs import open_run


def main(arguments: list[str]) -> int:
    """Print one row for each architecture, backend and precision."""
    parser = Parser(prog="python -m export speed", description=__doc__)
    parser.add_argument("run", type=Path, metavar="runs/NAME")
    parser.add_argument(
        "--size", type=int, metavar="N", help="the bundles of `export --size N`; default: the trained size"
    )
    parser.add_argument("--backends", nargs="+", choices=backends.names(), help="default: every one that runs here")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=60, help="turns of each file, in shuffled order (60)")
    parser.add_argument(
        "--clock", choices=CLOCKS, default="wall", help="cpu: where other programs share the cores (wall)"
    )
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args(arguments)
    names = asked.backends or [n for n in backends.names() if n != "null" and backends.find(n).presence().here]
    how = (names, asked.threads, asked.rounds, asked.clock)
    rows = [row for path in _bundles(asked) for row in time_bundle(open_bundle(path), *how)]
    print(json.dumps([asdict(row) for row in rows], indent=1) if asked.json else _table(rows))
    return 0


def _bundles(asked: argparse.Namespace) -> list[Path]:
    run = open_run(asked.run)
    pattern = f"*/bundle_{asked.size}" if asked.size else "*/bundle"
    found = sorted(file.parent for file in run.path.glob(f"{pattern}/bundle.json"))
    if not found:
        size = f" --size {asked.size}" if asked.size else ""
        raise InputError(f"{run.path} holds no such bundle: make it with `python -m export {run.path}{size}`")
    print(f"{len(found)} bundles, one call at a time on {asked.threads} threads, {asked.clock} clock", file=sys.stderr)
    return found


def _table(rows: list[Speed]) -> str:
    lines = [
        f"{'architecture':24} {'size':>5} {'backend':9} {'precision':9} {'p50 ms':>8} {'of fp32 [95%]':>20}  verdict"
    ]
    for row in rows:
        ratio = f"{row.ratio:.3f} [{row.low_95:.3f}, {row.high_95:.3f}]"
        left = f"{row.arch:24} {row.size_px:5} {row.backend:9} {row.precision:9} {row.median_ms:8.3f}"
        lines.append(f"{left} {ratio:>20}  {row.verdict}")
    return "\n".join(lines)
