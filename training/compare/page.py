"""The page of a comparison, a table below a description of the measurement, and its plot."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from training.reports.plots import save

COLUMNS = ("variant", "test accuracy", "sd", "n", "against {reference}", "balanced", "ECE raw", "ECE", "best epoch",
           "images/s", "seconds", "clipped", "loss spike")  # fmt: skip
COLORS = ("#6b7280", "#ea580c", "#2563eb", "#16a34a", "#9333ea", "#db2777", "#0891b2", "#a16207")
MAX_CURVES = 6
"""The largest number of curves, because more cannot be told apart."""
LABEL_WIDTH = 36
"""The number of characters in a line of a label."""


def render_page(title: str, run: dict[str, Any], summary: Sequence[dict[str, Any]], reference: str) -> str:
    """Return the page: a description of the measurement, and a table for each architecture."""
    machine, pack = run["machine"], run["pack"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    lines = [
        f"# {title}", "",
        *(["SYNTHETIC data: for trying out, not for a car.", ""] if pack["synthetic"] else []),
        f"{date.today()}, {machine['device']} ({machine['host_cpu']}), {machine['threads']} thread(s) a run, "
        f"{versions}; commit {run['commit'][:12]}, pack {pack['fingerprint'][:12]}.", "",
        f"Test accuracy of the epoch that was best on val; mean and sd over n seeds. \"against {reference}\": the mean "
        "difference in points, paired by seed, and its 95% interval by Student's t. ECE: raw, and after temperature "
        "scaling on val. Clipped: share of steps whose gradient was cut. Loss spike: the largest rise of the training "
        "loss from one epoch to the next. Seconds: of training, without its val epochs; they and images/s are medians.",
    ]  # fmt: skip
    for arch in dict.fromkeys(row["arch"] for row in summary):
        lines += ["", f"## {arch}", "", _line(name.format(reference=reference) for name in COLUMNS)]
        lines += [_line("-" for _ in COLUMNS)]
        lines += [_line(_cells(row, reference)) for row in summary if row["arch"] == arch]
    return "\n".join(lines) + "\n"


def _line(cells: Any) -> str:
    return "| " + " | ".join(cells) + " |"


def _cells(row: dict[str, Any], reference: str) -> tuple[str, ...]:
    sd = row["test_accuracy_sd"]
    against = "-" if row["variant"] == reference else format_difference(row["difference"])
    return (
        row["variant"], f"{row['test_accuracy']:.1%}", "-" if sd is None else f"{100 * sd:.1f}", str(len(row["seeds"])),
        against, f"{row['test_balanced_accuracy']:.1%}",
        f"{row['ece_before_temperature']:.3f}", f"{row['ece']:.3f}", f"{row['best_epoch']:.0f} of {row['epochs']:.0f}",
        f"{row['images_per_s']:.0f}", f"{row['seconds']:.0f}", f"{row['clipped']:.0%}", f"{row['loss_spike']:.0%}",
    )  # fmt: skip


def format_difference(paired: dict[str, Any] | None) -> str:
    """Return a paired difference in points with its interval, or the reason that there is none."""
    if paired is None:
        return "no seed shared"
    mean = f"{100 * paired['mean']:+.1f}"
    if paired["low"] is None:
        return f"{mean} (one seed)"
    return f"{mean} [{100 * paired['low']:+.1f}, {100 * paired['high']:+.1f}]"


def draw_comparison(file: Path, title: str, rows: Sequence[dict[str, Any]]) -> None:
    """Draw, for each architecture, the test accuracy of every seed, and the mean val accuracy over the epochs."""
    archs = list(dict.fromkeys(row["arch"] for row in rows))
    variants = list(dict.fromkeys(row["variant"] for row in rows))
    label_width = min(LABEL_WIDTH, max(map(len, variants)))
    width = 0.4 + 0.09 * label_width + 4.0 * len(archs)  # inches, as the heights
    seeds_height, curves_height = 1.4 + 0.3 * len(variants), 3.2
    figure = Figure(figsize=(width, seeds_height + curves_height + 2.0), layout="constrained")
    axes = figure.subplots(2, len(archs), squeeze=False, height_ratios=(seeds_height, curves_height))
    for column, arch in enumerate(archs):
        own_rows = [row for row in rows if row["arch"] == arch]
        _draw_seeds(axes[0, column], own_rows, variants, labeled=column == 0)
        _draw_curves(axes[1, column], own_rows, variants)
        axes[0, column].set_title(arch)
    axes[1, 0].legend(loc="lower right", frameon=False, fontsize=8)
    figure.suptitle(textwrap.fill(title, int(9 * width)))
    save(figure, file)


def _label(variant: str) -> str:
    return textwrap.fill(variant, LABEL_WIDTH)


def _draw_seeds(axes: Any, rows: Sequence[dict[str, Any]], variants: Sequence[str], labeled: bool) -> None:
    for y, variant in enumerate(variants):
        accuracies = [row["test_accuracy"] for row in rows if row["variant"] == variant]
        color = COLORS[y % len(COLORS)]
        axes.plot(accuracies, [y] * len(accuracies), "o", color=color, alpha=0.45, markersize=5)
        axes.plot(
            [np.mean(accuracies)] if accuracies else [], [y] if accuracies else [], "|", color=color, markersize=18
        )
    axes.set_yticks(range(len(variants)), [_label(variant) if labeled else "" for variant in variants])
    axes.set_ylim(len(variants) - 0.5, -0.5)
    axes.set_xlabel("test accuracy: a dot a seed, | the mean")
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.grid(alpha=0.25)


def _draw_curves(axes: Any, rows: Sequence[dict[str, Any]], variants: Sequence[str]) -> None:
    for y, variant in enumerate(variants[:MAX_CURVES]):
        curves = [row["val_curve"] for row in rows if row["variant"] == variant]
        longest = max(map(len, curves), default=0)
        # seeds that stopped early are left out of the mean of the later epochs
        padded = np.array([curve + [np.nan] * (longest - len(curve)) for curve in curves])
        if len(curves):
            epochs, mean = range(1, longest + 1), np.nanmean(padded, 0)
            over_longer = 3 - longest / 10_000  # a short run is drawn over a longer one that takes the same course
            axes.plot(epochs, mean, color=COLORS[y % len(COLORS)], label=_label(variant), zorder=over_longer)
    axes.set(xlabel="epoch", ylabel="val accuracy, mean of the seeds")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.grid(alpha=0.25)
