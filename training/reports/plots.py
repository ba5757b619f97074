"""The plots of a training: its history, and the confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from core.files import replacing

MAX_NAMED_CLASSES = 30
"""The largest number of classes with names and counts in the matrix; those of 1,000 classes would take 21 GB."""
BLUE, ORANGE, GRAY = "#2563eb", "#ea580c", "#6b7280"


def draw_history(file: Path, title: str, rows: Sequence[dict[str, float]], best_epoch: int) -> None:
    """Draw accuracy, loss and the learning rate over the epochs; restarts of the rate are dotted lines."""
    figure = Figure(figsize=(9, 9), layout="constrained")
    accuracy, loss, rate = figure.subplots(3, 1, sharex=True, height_ratios=(3, 3, 1.6))
    epochs = [row["epoch"] for row in rows]
    for axes, name in ((accuracy, "accuracy"), (loss, "loss")):
        for kind, color in (("train", GRAY), ("val", BLUE)):
            axes.plot(epochs, [row[f"{kind}_{name}"] for row in rows], color=color, label=kind, linewidth=1.8)
        axes.set_ylabel(name)
        axes.legend(loc="best", frameon=False)
    best = next(row for row in rows if row["epoch"] == best_epoch)
    accuracy.plot(best_epoch, best["val_accuracy"], "o", color=ORANGE)
    accuracy.annotate(
        f"best {best['val_accuracy']:.1%}, epoch {best_epoch}",
        (best_epoch, best["val_accuracy"]), xytext=(0, -16), textcoords="offset points", ha="center", color=ORANGE,
    )  # fmt: skip
    accuracy.yaxis.set_major_formatter(PercentFormatter(1.0))
    rates = [row["learning_rate"] for row in rows]
    rate.plot(epochs, rates, color=ORANGE, linewidth=1.8)
    rate.set(ylabel="learning rate", xlabel="epoch (train: with augmentation and dropout)")
    rate.ticklabel_format(axis="y", style="sci", scilimits=(-3, -3))
    restarts = []  # a rate that doubles to the upper half of its range; a warm-up doubles below it
    for epoch, before, after in zip(epochs[1:], rates, rates[1:], strict=False):
        if after > 2 * before and after > 0.5 * max(rates):
            restarts.append(epoch)
    for axes in (accuracy, loss, rate):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        for epoch in restarts:
            axes.axvline(epoch, color=ORANGE, linestyle=":", linewidth=1)
    figure.suptitle(title)
    save(figure, file)


def draw_confusion(file: Path, title: str, matrix: list[list[int]], classes: tuple[str, ...]) -> None:
    """Draw the matrix, a row for each true class, shaded by its shares; with few classes, the counts are written."""
    counts = np.array(matrix)
    few = len(classes) <= MAX_NAMED_CLASSES
    side = 2.5 + 0.7 * len(classes) if few else 10
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    # at least 1, so that a class without a row has shares of 0, not 0 / 0
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="answer", ylabel="truth", title=title)
    if few:
        axes.set_xticks(range(len(classes)), classes, rotation=35, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(classes)), classes)
        _write_counts(axes, counts, shares)
    else:
        axes.set(xlabel="answer, by the number of its class in pack.json", ylabel="truth")
    save(figure, file)


def _write_counts(axes: Axes, counts: NDArray[np.int64], shares: NDArray[np.float64]) -> None:
    for (i, j), n in np.ndenumerate(counts):
        axes.text(j, i, f"{n}\n{shares[i, j]:.0%}" if n else "0", ha="center", va="center", fontsize=9,
                  color="white" if shares[i, j] > 0.55 else "black")  # fmt: skip


def save(figure: Figure, file: Path) -> None:
    """Write a figure as PNG, whole or not at all."""
    with replacing(file) as temporary:
        figure.savefig(str(temporary), format="png", dpi=110)
