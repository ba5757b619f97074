"""The accuracy on labeled frames as tables for the terminal; they are Markdown where stdout is no terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.report.tables import as_percent, as_range, false_alarms, three_digits
from benchmarks.results.frames import FramesAccuracy, RiskPoint

OBJECTS = (
    "", "objects", "named\nrightly %", "no\nregion", "under the\nthreshold", "not\nseen", "said\nempty", "wrong"
)  # fmt: skip
RISK = ("abstain\nthreshold", "answered, % of the\nobjects with a region", "wrong,\n% of these")
FILE_WIDTH = 1000
"""The width where stdout is no terminal: a row of Markdown must not be broken."""


def format_frames(results: Mapping[str, FramesAccuracy]) -> str:
    """Return the accuracy on frames: objects by class, size and place; abstain thresholds; false alarms; times."""
    terminal = sys.stdout.isatty()
    # names of classes and files are no markup
    console = Console(markup=False, emoji=False, highlight=False, width=None if terminal else FILE_WIDTH)
    with console.capture() as text:
        for name, frames in results.items():
            unreadable = f", {frames.unreadable} more cannot be read" if frames.unreadable else ""
            console.print(f"{name}, {frames.regions}: {frames.frames} frames of {frames.split}{unreadable}")
            console.print(_table(OBJECTS, _object_rows(frames), terminal))
            if frames.risk_curve:
                console.print(_table(RISK, map(_risk_row, frames.risk_curve), terminal))
            counted = f" in 100 frames, {frames.false_alarms} of {frames.empty_regions} regions without an object"
            console.print(
                f"False alarms: {false_alarms(frames)}{counted if frames.empty_regions else ''}.\n"
                f"Time of a frame: p50 {three_digits(frames.p50_ms)} ms, p99 {three_digits(frames.p99_ms)} ms."
                " In brackets: the 95% interval.\n"
            )
    return "\n".join(line.rstrip() for line in text.get().strip().splitlines())


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]], terminal: bool) -> Table:
    # narrow: a terminal of 80 columns holds it, where only the names of classes may be broken
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), pad_edge=False) if terminal else Table(box=box.MARKDOWN)
    for i, head in enumerate(heads):
        lines = head if terminal else head.replace("\n", " ")
        table.add_column(lines, justify="right" if i else "left", no_wrap=i > 0, overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def _object_rows(frames: FramesAccuracy) -> Iterable[tuple[str, ...]]:
    groups = {"all": frames.objects, **frames.by_class}
    groups |= {f"size: {name}": counts for name, counts in frames.by_size.items()}
    groups |= {f"place: {name}": counts for name, counts in frames.by_place.items()}
    for name, counts in groups.items():
        found = counts.outcomes
        numbers = (found["no_region"], found["silent"] - counts.not_seen, counts.not_seen, found["background"])
        right = f"{as_percent(counts.recall)} ({as_range(counts.interval)})"
        yield name, str(counts.n), right, *map(str, numbers), str(found["wrong"])


def _risk_row(point: RiskPoint) -> tuple[str, ...]:
    return (
        f"{point.threshold:.3f}" + (" (shipped)" if point.shipped else ""),
        f"{as_percent(point.coverage)} ({as_range(point.coverage_interval)})",
        f"{as_percent(point.risk)} ({as_range(point.risk_interval)})",
    )
