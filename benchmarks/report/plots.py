"""The plot of accuracy over latency as PNG, for README files, chats and CI; report.js draws those of report.html."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from benchmarks.report.results_file import DeviceReport
from benchmarks.results.candidate import measured

COLORS = ("#2563eb", "#d97706", "#059669", "#9333ea", "#dc2626", "#0891b2", "#65a30d", "#db2777")
MARKERS = {"fp32": "o", "fp16": "s", "int8": "^"}


def draw_pareto(path: Path, device: DeviceReport) -> None:
    """Draw accuracy with its interval over median latency with its p99, and a ring around the chosen candidate."""
    results, choice = device.results, device.choice
    rows = [(row, accuracy) for row in results.candidates if (accuracy := measured(row.accuracy))]
    archs = sorted({row.arch for row, _ in rows})
    figure = Figure(figsize=(8, 5), dpi=120, layout="constrained")
    axes = figure.subplots()
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
        axes.annotate(f"{row.precision} {row.backend}", (x, y), (6, 5), textcoords="offset points", fontsize=7)
        if row.name == choice.chosen:
            axes.plot(x, y, "o", ms=20, mfc="none", mec="black", mew=1.5)
    for i, arch in enumerate(archs):  # empty lines, for the legend alone
        axes.plot([], [], "o", color=COLORS[i % len(COLORS)], label=arch)
    if choice.policy.p99_ms is not None:
        axes.axvline(choice.policy.p99_ms, color="gray", ls="--", lw=0.8)
    axes.set(xscale="log", xlabel="ms per frame, median (whisker: p99)", ylabel="test accuracy, % (95% interval)")
    label = "synthetic data, " if results.synthetic else ""
    axes.set_title(f"{results.run}: {label}{results.machine.cpu}", fontsize=9)
    axes.legend(fontsize=8)
    axes.grid(alpha=0.25)
    figure.savefig(path)
