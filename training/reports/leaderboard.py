"""The leaderboard: the finished architectures of a run, the best on val first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from core.files import read_json, write_json, write_text

TABLES = ("confusion_matrix", "risk_coverage")
"""Keys of metrics.json that the leaderboard leaves out."""
HEADER = ("architecture", "parameters", "val", "test", "balanced", "macro F1", "ECE", "best epoch", "images/s", "time")


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """Return the metrics.json of each finished architecture, ordered by val accuracy."""
    finished = [read_json(file, "train the run again") for file in run.glob("*/metrics.json")]
    return sorted(finished, key=lambda m: (-m["val"]["accuracy"], m["arch"]))


def write_leaderboard(run: Path, synthetic: bool) -> str:
    """Write leaderboard.json and leaderboard.md; return the table."""
    finished = read_metrics(run)
    write_json(run / "leaderboard.json", [_without_tables(m) for m in finished])
    table = "\n".join(_line(cells) for cells in (HEADER, ("-",) * len(HEADER), *map(_cells, finished)))
    note = "SYNTHETIC data: for trying out, not for a car.\n\n" if synthetic else ""
    text = f"# {run.name}\n\n{note}Ordered by val accuracy; test is only reported.\n\n{table}\n"
    write_text(run / "leaderboard.md", text)
    return note + table


def _without_tables(value: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of metrics.json's content without its tables, which take 16 MB for 1,000 classes."""
    small = {key: item for key, item in value.items() if key not in TABLES}
    return {key: _without_tables(item) if isinstance(item, dict) else item for key, item in small.items()}


def _cells(m: dict[str, Any]) -> tuple[str, ...]:
    test = m["test"]
    return (
        m["arch"], f"{m['parameters'] / 1e6:.2f} M", f"{m['val']['accuracy']:.1%}", f"{test['accuracy']:.1%}",
        f"{test['balanced_accuracy']:.1%}", f"{test['macro_f1']:.3f}", f"{test['ece']:.3f}",
        f"{m['epoch']} of {m['epochs']}", f"{m['images_per_s']:.0f}", f"{m['seconds']:.0f} s",
    )  # fmt: skip


def _line(cells: tuple[str, ...]) -> str:
    widths = (22, 10, 6, 6, 8, 8, 6, 10, 8, 7)
    return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"
