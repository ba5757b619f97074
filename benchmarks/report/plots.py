"""The plot of accuracy over latency as PNG, for README files, chats and CI; report.js draws those of report.html."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from benchmarks.report.results_file import DeviceReport
from benchmarks.results.candidate import measured

COLORS = ("#2563eb", "#d97706", "#059669", "#9333ea", "#dc2626", "#0891b2", "#65a30d", "#db2777")
MARKERS = {"fp32": "o", "fp16": "s", "int8": "^"}
LINE_IN = 0.16
"""The height of a line of text, in inches."""


def draw_pareto(path: Path, device: DeviceReport) -> None:
    """Write the plot of accuracy over latency."""
    plot_pareto(device).savefig(path)


def plot_pareto(device: DeviceReport) -> Figure:
    """Plot accuracy with its interval over median latency with its p99, and a ring around the chosen candidate.

    The names stand in a column beside the axes, in the order of the accuracy, each with a line to its mark.
    """
    results, choice = device.results, device.choice
    rows = [(row, accuracy) for row in results.candidates if (accuracy := measured(row.accuracy))]
    archs = sorted({row.arch for row, _ in rows})
    height = max(5.0, 1.3 + LINE_IN * len(rows))
    figure = Figure(figsize=(10, height), dpi=120, layout="constrained")
    axes = figure.subplots()
    labels = []
    for row, accuracy in rows:
        frame = row.latency.frame_ms
        x, y = frame.p50, 100 * accuracy.top1
        # matplotlib wants the lengths of the whiskers, not their ends
        low, high = (100 * edge for edge in accuracy.interval)
        color = COLORS[archs.index(row.arch) % len(COLORS)]
        axes.errorbar(
            x, y, yerr=[[y - low], [high - y]], xerr=[[0.0], [max((frame.p99 or frame.max) - x, 0.0)]],
            fmt=MARKERS[row.precision], color=color, mfc=color if row.backend == "ort" else "white",
            ms=8, elinewidth=0.8, capsize=2, alpha=0.9,
        )  # fmt: skip
        labels.append((y, x, row.name, color))
        if row.name == choice.chosen:
            axes.plot(x, y, "o", ms=20, mfc="none", mec="black", mew=1.5)
    if (budget := choice.policy.p99_ms) is not None:
        axes.axvline(budget, color="gray", ls="--", lw=0.8, label=f"p99 budget, {budget:g} ms, of the whiskers' ends")
        axes.legend(fontsize=8)
    axes.set(xscale="log", xlabel="ms per frame, median (whisker: p99)", ylabel="test accuracy, % (95% interval)")
    label = "synthetic data, " if results.synthetic else ""
    axes.xaxis.set_major_formatter("{x:g}")  # 10, not a power
    axes.set_title(f"{results.run}: {label}{results.machine.cpu}", fontsize=9)
    axes.grid(alpha=0.25)
    bottom, top = axes.get_ylim()
    labels.sort()
    places = spread([(y - bottom) / (top - bottom) for y, *_ in labels], LINE_IN / (height - 1))
    for (y, x, name, color), place in zip(labels, places, strict=True):
        axes.annotate(
            name, (x, y), (1.03, place), textcoords="axes fraction", fontsize=8, color=color, va="center",
            weight="bold" if name == choice.chosen else "normal", annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": color, "lw": 0.5, "alpha": 0.6, "relpos": (0, 0.5)},
        )  # fmt: skip
    return figure


def spread(places: Sequence[float], gap: float) -> list[float]:
    """Return places within 0 to 1 that are `gap` apart at least, near these, which are in rising order."""
    found: list[float] = []
    for place in places:
        found.append(max(place, found[-1] + gap) if found else place)
    # those that were pushed over the end push the others back
    ends = [1 - gap * (len(found) - 1 - i) for i in range(len(found))]
    return [min(place, end) for place, end in zip(found, ends, strict=True)]
