"""Observe the ranges of activations on the calibration rows of a pack, and choose what int8 has to represent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from core.bundle.contract import INPUT
from core.data.pack import Pack
from core.geometry.frame import Bytes
from core.stats import pick_balanced
from export.verify.parity import batches, cpu_session

ROWS = 500
"""The number of rows that are observed, or all calibration rows when they are fewer."""
BATCH = 8
BINS = 2048
ENTROPY_LEVELS = 128
"""Levels of |x| in int8, 0 to 127: the entropy method compares each histogram with one of this many bins."""
PERCENTILE = 99.99


@dataclass(frozen=True)
class Histogram:
    """Counts of |x| in BINS equal bins from 0 to `amax`."""

    amax: float
    counts: NDArray[np.int64]

    def percentile(self, percent: float) -> float:
        """Return the magnitude that `percent` of the values do not exceed."""
        share = np.cumsum(self.counts) / max(self.counts.sum(), 1)
        last = np.searchsorted(share, percent / 100)
        # + 1: the upper edge of the bin, under which all its values lie
        return float((last + 1) / BINS * self.amax)

    def entropy(self) -> float:
        """Return the magnitude at which clipping loses the least information.

        Source: S. Migacz, "8-bit inference with TensorRT", GTC 2017: the smallest Kullback-Leibler divergence
        between the clipped distribution and its ENTROPY_LEVELS-level version.
        """

        def divergence_at(end: int) -> float:
            # the last bin of the one takes all that is clipped, that of the other does not: so clipping costs something
            clipped = counts[:end].copy()
            clipped[-1] += counts[end:].sum()
            return _divergence(clipped, _coarse(counts[:end]))

        counts = self.counts.astype(np.float64)
        # 121 candidates, 16 bins apart; the last one clips nothing
        return min(range(ENTROPY_LEVELS, BINS + 1, ENTROPY_LEVELS // 8), key=divergence_at) / BINS * self.amax


METHODS: dict[str, Callable[[Histogram], float]] = {
    "minmax": lambda histogram: histogram.amax,
    "percentile": lambda histogram: histogram.percentile(PERCENTILE),
    "entropy": Histogram.entropy,
}
"""{name: the magnitude to represent, from a histogram}."""


def _coarse(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Spread each of ENTROPY_LEVELS levels evenly over those of its bins that are not empty."""
    level_of = np.arange(len(counts)) * ENTROPY_LEVELS // len(counts)
    totals = np.bincount(level_of, counts, ENTROPY_LEVELS)
    filled = np.bincount(level_of, counts > 0, ENTROPY_LEVELS)
    return np.where(counts > 0, (totals / np.maximum(filled, 1))[level_of], 0)


def _divergence(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    p, q = p / max(p.sum(), 1), q / max(q.sum(), 1)
    both = (p > 0) & (q > 0)
    shared = (p[both] * np.log(p[both] / q[both])).sum()
    # values to which the coarse version gives no probability would make it infinite: they count as if q were p / 1e12
    missed = p[(p > 0) & (q == 0)].sum()
    return float(shared + missed * np.log(1e12))


def calibration_rows(pack: Pack, count: int = ROWS) -> NDArray[np.int64]:
    """Return up to `count` calibration rows of a pack, balanced over the classes; the same every time."""
    return np.sort(rows_in_turn(pack, "calibration", count))


def rows_in_turn(pack: Pack, split: str, count: int) -> NDArray[np.int64]:
    """Return up to `count` row numbers of a split, taking the classes in turn."""
    rows = pack.rows(split)
    return rows[pick_balanced(pack.labels_n[rows], count)]


class Observer:
    """Runs an fp32 graph on rows of a pack and returns its inner tensors."""

    def __init__(self, model: onnx.ModelProto, tensors: Iterable[str]) -> None:
        self.tensors = sorted(tensors)
        watched = deepcopy(model)
        watched.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in self.tensors)
        self._session = cpu_session(watched, exact=True)

    def run(self, images_nhwc: Bytes, rows: NDArray[np.int64]) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """Yield the name and the values of every watched tensor, batch after batch."""
        for frames_nhwc in batches(images_nhwc, rows, BATCH):
            if self.tensors:  # the runtime takes an empty list for all outputs
                yield from zip(self.tensors, self._session.run(self.tensors, {INPUT["name"]: frames_nhwc}), strict=True)


def find_peaks(observer: Observer, images_nhwc: Bytes, rows: NDArray[np.int64]) -> dict[str, float]:
    """Return the largest magnitude of each watched tensor; NaN counts as infinity."""
    amax = dict.fromkeys(observer.tensors, 0.0)
    for name, values in observer.run(images_nhwc, rows):
        if np.issubdtype(values.dtype, np.floating) and values.size:
            peak = float(np.abs(values).max())
            amax[name] = max(amax[name], peak if np.isfinite(peak) else float("inf"))
    return amax


def build_histograms(observer: Observer, images_nhwc: Bytes, rows: NDArray[np.int64]) -> dict[str, Histogram]:
    """Return a histogram of the magnitudes of each watched tensor, in two passes: the range, then the counts."""
    # kept between the passes, the activations of all rows would take gigabytes
    amax = find_peaks(observer, images_nhwc, rows)
    counts = {name: np.zeros(BINS, np.int64) for name in amax}
    for name, values in observer.run(images_nhwc, rows):
        if amax[name] > 0:
            positions = np.abs(values).ravel() * np.float32(BINS / amax[name])
            # the largest value itself falls on the upper edge: it belongs into the last bin
            bins = np.minimum(positions, BINS - 1).astype(np.int32)
            counts[name] += np.bincount(bins, minlength=BINS)
    return {name: Histogram(amax[name], counts[name]) for name in amax}


def choose_ranges(histograms: dict[str, Histogram], method: str) -> dict[str, float]:
    """Return the magnitude to represent for each tensor, by one of METHODS."""
    return {name: METHODS[method](histogram) for name, histogram in histograms.items()}


def channel_ranges(
    model: onnx.ModelProto, tensors: Iterable[str], images_nhwc: Bytes, rows: NDArray[np.int64]
) -> dict[str, NDArray[np.float32]]:
    """Return the largest magnitude of each channel (axis 1) of the tensors, float32 (channels,)."""
    highest: dict[str, NDArray[np.float32]] = {}
    for name, values in Observer(model, tensors).run(images_nhwc, rows):
        magnitudes = np.abs(np.moveaxis(values, 1, 0))
        peak = magnitudes.reshape(values.shape[1], -1).max(1)
        highest[name] = np.maximum(highest.get(name, peak), peak)
    return highest
