"""The PNG pictures of the report, for README files, chats and CI summaries; report.html draws its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

COLOURS = ("#2563eb", "#d97706", "#059669", "#9333ea", "#dc2626", "#0891b2", "#65a30d", "#db2777")
MARKERS = {"fp32": "o", "fp16": "s", "int8": "^"}


def draw_pareto(path: Path, results: dict[str, Any], chosen: str | None) -> None:
    """Draw accuracy with its interval over median latency with its p99; the chosen one is ringed."""
    rows = [row for row in results["candidates"] if row["accuracy"]]
    archs = sorted({row["arch"] for row in rows})
    figure, axes = plt.subplots(figsize=(8, 5), dpi=120, layout="constrained")
    for row in rows:
        frame, accuracy = row["latency"]["frame_ms"], row["accuracy"]
        x, y = frame["p50"], 100 * accuracy["top1"]
        low, high = (100 * edge for edge in accuracy["interval"])
        colour = COLOURS[archs.index(row["arch"]) % len(COLOURS)]
        hollow = row["backend"] != "ort"
        axes.errorbar(
            x, y, yerr=[[y - low], [high - y]], xerr=[[0], [max(frame["p99"] - x, 0)]], fmt=MARKERS[row["precision"]],
            color=colour, mfc="white" if hollow else colour, ms=8, elinewidth=0.8, capsize=2, alpha=0.9,
        )  # fmt: skip
        axes.annotate(f"{row['precision']} {row['backend']}", (x, y), (6, 5), textcoords="offset points", fontsize=7)
        if row["name"] == chosen:
            axes.plot(x, y, "o", ms=20, mfc="none", mec="black", mew=1.5)
    for i, arch in enumerate(archs):
        axes.plot([], [], "o", color=COLOURS[i % len(COLOURS)], label=arch)
    if (budget_ms := results["policy"]["p99_ms"]) is not None:
        axes.axvline(budget_ms, color="grey", ls="--", lw=0.8)
    axes.set(xscale="log", xlabel="ms per frame, median (whisker: p99)", ylabel="test accuracy, % (95% interval)")
    label = "synthetic data, " if results["synthetic"] else ""
    axes.set_title(f"{results['run']}: {label}{results['machine']['cpu']}", fontsize=9)
    axes.legend(fontsize=8)
    axes.grid(alpha=0.25)
    figure.savefig(path)
    plt.close(figure)
