"""The accuracy on frames as Markdown tables."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.frame_results import Counts, FramesAccuracy, Outcome
from benchmarks.report.tables import as_ms, as_percent, as_range

HEADER = (
    "| | objects | named rightly % | no region | silent | said empty | wrong |\n|---|---:|---:|---:|---:|---:|---:|"
)
ORDER = (Outcome.NO_REGION, Outcome.SILENT, Outcome.BACKGROUND, Outcome.WRONG)


def as_markdown(results: Mapping[str, FramesAccuracy]) -> str:
    """Return a section for each bundle: its objects in all, by class, size and place; false alarms; times."""
    return "\n\n".join(_section(name, one) for name, one in results.items())


def _section(name: str, one: FramesAccuracy) -> str:
    unreadable = f", {one.unreadable} more cannot be read" if one.unreadable else ""
    low, high = one.false_alarms_interval
    lines = [f"{name}, {one.regions}: {one.frames} frames of {one.split}{unreadable}", "", HEADER]
    groups = ({"all": one.objects}, one.by_class, one.by_size, one.by_place)
    lines += [_row(key, counts) for group in groups for key, counts in group.items()]
    return "\n".join(
        [
            *lines,
            "",
            f"False alarms: {one.false_alarms_per_100:.1f} ({low:.1f}-{high:.1f}) in 100 frames, {one.false_alarms} "
            f"of {one.empty_regions} regions without an object.",
            f"Time of a frame: p50 {as_ms(one.p50_ms)} ms, p99 {as_ms(one.p99_ms)} ms.",
        ]
    )


def _row(name: str, counts: Counts) -> str:
    rest = " | ".join(str(counts.outcomes[outcome.value]) for outcome in ORDER)
    return f"| {name} | {counts.n} | {as_percent(counts.recall)} ({as_range(counts.interval)}) | {rest} |"
