"""Statistics: intervals of proportions and paired differences, calibration, risk over coverage, percentiles."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
PERCENTILE_CONFIDENCE = 0.99
BINS = 15
NORMAL = NormalDist()
ROOT_TOLERANCE = 1e-10
MOST_SAMPLES = 10**12
"""Upper end of the search for a sample count."""

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
TopProbs = NDArray[np.floating[Any]]
"""The highest class probability of each row, in any float type."""


class Interval(NamedTuple):
    """A closed interval."""

    low: float
    high: float


class PairCounts(NamedTuple):
    """Counts of rows on which two candidates agree or differ."""

    only_reference: int
    """Rows that only the reference answers rightly."""
    only_rival: int
    """Rows that only the rival answers rightly."""
    n: int

    @property
    def loss(self) -> float:
        """Accuracy of the reference minus accuracy of the rival."""
        return (self.only_reference - self.only_rival) / self.n


def wilson(hits: int, n: int, deff: float = 1.0) -> Interval:
    """Return the 95% score interval of a proportion; (0, 1) when n is 0. deff: core.clusters.design_effect.

    Source: Wilson, Journal of the American Statistical Association 22 (1927) 209-212.
    """
    if n == 0:
        return Interval(0.0, 1.0)
    z = NORMAL.inv_cdf((1 + CONFIDENCE) / 2) * math.sqrt(deff)
    middle = hits + z**2 / 2
    half = z * math.sqrt(hits * (n - hits) / n + z**2 / 4)
    # rounding may step outside 0..1 where all or none are hits
    low = max((middle - half) / (n + z**2), 0.0)
    high = min((middle + half) / (n + z**2), 1.0)
    return Interval(low, high)


def poisson_interval(count: int, deff: float = 1.0) -> Interval:
    """Return the exact 95% interval of the mean of a Poisson count; deff: core.clusters.dispersion.

    A deff makes it that of a count smaller by this factor, scaled up again.
    Source: Garwood, Biometrika 28 (1936) 437-442.
    """
    tail = (1 - CONFIDENCE) / 2
    smaller = count / deff
    low = _gamma_quantile(smaller, tail) if count else 0.0
    return Interval(low * deff, _gamma_quantile(smaller + 1, 1 - tail) * deff)


def _gamma_quantile(shape: float, probability: float) -> float:
    """Return the quantile of the gamma distribution of scale 1, by bisection.

    For a whole shape its distribution function is the probability that a Poisson count of this mean reaches the shape.
    """
    low, high = 0.0, shape + 20 + 10 * math.sqrt(shape + 1)
    steps = np.arange(math.ceil(2 * high) + 50)
    log_factorials = math.lgamma(shape + 1) + np.append(0.0, np.log(shape + steps[1:]).cumsum())
    while high - low > ROOT_TOLERANCE * max(high, 1.0):
        mean = (low + high) / 2
        reached = float(np.exp((shape + steps) * math.log(mean) - mean - log_factorials).sum())
        low, high = (mean, high) if reached < probability else (low, mean)
    return (low + high) / 2


def difference_interval(hits_a: int, n_a: int, hits_b: int, n_b: int) -> Interval:
    """Return the 95% interval of the difference a - b of two independent proportions.

    Source: Newcombe, Statistics in Medicine 17 (1998) 873-890, method 10: a hybrid of Wilson's intervals.
    """
    a, b = hits_a / n_a, hits_b / n_b
    (low_a, high_a), (low_b, high_b) = wilson(hits_a, n_a), wilson(hits_b, n_b)
    below = math.hypot(a - low_a, high_b - b)
    above = math.hypot(high_a - a, b - low_b)
    return Interval(a - b - below, a - b + above)


def count_pairs(reference_n: Bools, rival_n: Bools) -> PairCounts:
    """Count the discordant rows of two "was right" vectors over the same rows."""
    return PairCounts(int((reference_n & ~rival_n).sum()), int((~reference_n & rival_n).sum()), len(reference_n))


def mcnemar_p(pairs: PairCounts) -> float:
    """Return the exact two-sided p of McNemar's test; 1 when no row is discordant."""
    # under the null hypothesis each discordant row is a fair coin, so the smaller count is binomial with p = 1/2
    fewer, more = sorted(pairs[:2])
    return min(1.0, 2 * _binomial_cdf(fewer, fewer + more, 0.5))


def tango_score(pairs: PairCounts, loss: float) -> float:
    """Return Tango's score statistic for the hypothesis that the true paired loss is `loss` (-1 < loss < 1).

    The score is the observed loss minus `loss`, in standard deviations under that hypothesis. Unlike the standard
    deviation of the observed loss, this one is not zero where no row is discordant, so the interval has a width there.
    Source: Tango, Statistics in Medicine 17 (1998) 891-908, equations 4 and 5. At loss 0 it is McNemar's z.
    """
    b, c, n = pairs
    linear = -b - c + (2 * n - b + c) * loss
    # the constrained maximum-likelihood estimate of the probability that only the rival is right
    q21 = (math.sqrt(max(linear**2 + 8 * n * c * loss * (1 - loss), 0.0)) - linear) / (4 * n)
    variance = n * (2 * q21 + loss * (1 - loss))
    gap = b - c - n * loss
    if variance > 1e-12:
        return gap / math.sqrt(variance)
    # at loss 1 or -1 the variance is 0: any other observed loss is impossible then
    return math.copysign(math.inf, gap) if gap else 0.0


def paired_interval(pairs: PairCounts, confidence: float = CONFIDENCE, deff: float = 1.0) -> Interval:
    """Return Tango's interval of the paired loss: every loss whose score is within the normal quantiles times √deff."""
    quantile = NORMAL.inv_cdf((1 + confidence) / 2) * math.sqrt(deff)
    return Interval(_tango_root(pairs, quantile), _tango_root(pairs, -quantile))


def loss_bound(pairs: PairCounts, confidence: float = CONFIDENCE) -> float:
    """Return the one-sided upper bound of the paired accuracy loss of the rival against the reference."""
    return _tango_root(pairs, -NORMAL.inv_cdf(confidence))


def combine_bounds(strata: Sequence[tuple[float, float, float]]) -> float:
    """Return the upper bound of a weighted sum of independent losses, from (weight, loss, upper bound) of each.

    Source: MOVER, Zou and Donner, Statistics in Medicine 27 (2008) 1693-1702. One stratum keeps its bound.
    """
    loss = sum(weight * observed for weight, observed, _ in strata)
    return loss + math.sqrt(sum((weight * (bound - observed)) ** 2 for weight, observed, bound in strata))


def _tango_root(pairs: PairCounts, score: float) -> float:
    """Return the loss whose score is `score`, by bisection: the score falls as the loss rises."""
    low, high = -1.0, 1.0
    while high - low > ROOT_TOLERANCE:
        middle = (low + high) / 2
        if tango_score(pairs, middle) > score:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _binomial_cdf(most: int, n: int, p: float) -> float:
    """Return the probability of at most `most` successes in n trials; logarithms, since (1 - p)^n underflows."""
    k = np.arange(1, most + 1)
    log_ratios = np.log((n - k + 1) / k * (p / (1 - p)))  # of the probability of k to that of k - 1
    return float(np.exp(n * math.log1p(-p) + np.append(0, log_ratios.cumsum())).sum())


class CalibrationBin(NamedTuple):
    """Rows whose top probability lies in one bin."""

    n: int
    confidence: float
    """Mean top probability."""
    accuracy: float


def calibration_bins(tops_n: TopProbs, correct_n: Bools) -> list[CalibrationBin]:
    """Return the bins that hold rows, of BINS of equal width of the top probability."""
    index_n = np.minimum((tops_n * BINS).astype(int), BINS - 1)  # a probability of 1 belongs to the last bin
    bins = []
    for number in range(BINS):
        inside_n = index_n == number
        if inside_n.any():
            confidence = float(tops_n[inside_n].mean())
            accuracy = float(correct_n[inside_n].mean())
            bins.append(CalibrationBin(int(inside_n.sum()), confidence, accuracy))
    return bins


def calibration_error(tops_n: TopProbs, correct_n: Bools) -> float:
    """Return the expected calibration error. Source: Guo et al., ICML 2017, equation 3."""
    bins = calibration_bins(tops_n, correct_n)
    return sum(b.n * abs(b.confidence - b.accuracy) for b in bins) / len(tops_n)


def risk_coverage(tops_n: TopProbs, correct_n: Bools) -> tuple[TopProbs, Floats, Floats]:
    """Return (confidence, coverage, risk), each (n,): accepting all rows at least this sure, and their error rate.

    Source: El-Yaniv and Wiener, Journal of Machine Learning Research 11 (2010) 1605-1641.
    """
    # stable, so that rows of equal probability are accepted in the same order on every machine
    order = np.argsort(-tops_n, kind="stable")
    n = np.arange(1, len(order) + 1)
    return tops_n[order], n / len(n), (~correct_n[order]).cumsum() / n


def ranks_in_class(labels_n: NDArray[Any]) -> NDArray[np.int64]:
    """Return how many rows of the same label stand before each row."""
    ranks = np.zeros(len(labels_n), np.int64)
    for label in np.unique(labels_n):
        ranks[labels_n == label] = np.arange((labels_n == label).sum())
    return ranks


def pick_balanced(labels_n: NDArray[Any], count: int) -> NDArray[np.int64]:
    """Return up to `count` positions, one of each class in turn, those of a class in their order."""
    # lexsort's last key comes first: all first rows of their class, then all second rows, and so on
    return np.lexsort((labels_n, ranks_in_class(labels_n)))[:count]


def early_stopping_count(percentile: float, over: int = 1) -> int:
    """Return the fewest samples after which `percentile` (0..1) may be claimed with `over` samples above it.

    Source: MLPerf inference rules, "early stopping"; 64, 130, 662 and 6,636 for p90, p95, p99, p99.9.
    """

    def enough(n: int) -> bool:
        return _binomial_cdf(over, n, 1 - percentile) <= 1 - PERCENTILE_CONFIDENCE

    return bisect_left(range(MOST_SAMPLES), True, over + 1, key=enough)


def percentile_bound(samples_n: Floats, percentile: float) -> float | None:
    """Return MLPerf's early-stopping estimate: with 99% confidence over the true percentile; None with too few.

    It is the t-th highest sample for the largest t whose early_stopping_count is at most n.
    """
    n = len(samples_n)

    def too_many(over: int) -> bool:
        return _binomial_cdf(over, n, 1 - percentile) > 1 - PERCENTILE_CONFIDENCE

    t = bisect_left(range(n), True, key=too_many) - 1
    return float(np.sort(samples_n)[n - t]) if t >= 1 else None


@dataclass(frozen=True)
class Summary:
    """Latency in a few figures, from all samples. A percentile is None where the samples are too few to claim it.

    A bound is MLPerf's early-stopping estimate of the percentile.
    """

    n: int
    mean: float
    p50: float
    p90: float | None
    p90_bound: float | None
    p99: float | None
    p99_bound: float | None
    p99_9: float | None
    p99_9_bound: float | None
    max: float


def summarize(samples_n: Floats) -> Summary:
    """Return the figures of latency samples."""

    def claim(percentile: float) -> tuple[float | None, float | None]:
        bound = percentile_bound(samples_n, percentile)
        return (None if bound is None else float(np.quantile(samples_n, percentile))), bound

    p50, mean, most = float(np.quantile(samples_n, 0.5)), float(samples_n.mean()), float(samples_n.max())
    # each claim gives two fields: the percentile and its bound
    return Summary(len(samples_n), mean, p50, *claim(0.9), *claim(0.99), *claim(0.999), most)


def coefficient_of_variation(values: Sequence[float] | Floats) -> float:
    """Return the sample standard deviation over the mean."""
    return float(np.std(values, ddof=1) / np.mean(values))
