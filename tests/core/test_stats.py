"""The statistics against references: scipy, statsmodels, MLPerf's table, and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import proportion_confint

from core.stats import (
    PairCounts,
    calibration_bins,
    calibration_error,
    count_pairs,
    early_stopping_count,
    loss_bound,
    mcnemar_p,
    paired_interval,
    percentile_bound,
    pick_balanced,
    poisson_interval,
    risk_coverage,
    summarize,
    tango_score,
    wilson,
)

counts = st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@st.composite
def pairs(draw, most=800):
    n = draw(st.integers(1, most))
    b = draw(st.integers(0, n))
    return PairCounts(b, draw(st.integers(0, n - b)), n)


@given(counts)
def test_wilson_is_that_of_statsmodels(hits_n):
    assert wilson(*hits_n) == pytest.approx(proportion_confint(*hits_n, method="wilson"), abs=1e-9)


@given(st.integers(0, 3000))
def test_the_interval_of_a_count_is_garwoods(count):
    low, high = stats.chi2.ppf(0.025, 2 * count) / 2 if count else 0.0, stats.chi2.ppf(0.975, 2 * count + 2) / 2
    assert poisson_interval(count) == pytest.approx((low, high), rel=1e-7)


@given(pairs())
def test_mcnemar_is_that_of_statsmodels(p):
    rest = p.n - p.only_reference - p.only_rival
    expected = mcnemar([[rest, p.only_reference], [p.only_rival, 0]], exact=True).pvalue
    assert mcnemar_p(p) == pytest.approx(expected if p.only_reference + p.only_rival else 1.0)


@given(pairs())
def test_tango_at_no_loss_is_mcnemars_z(p):
    if discordant := p.only_reference + p.only_rival:
        assert tango_score(p, 0.0) == pytest.approx((p.only_reference - p.only_rival) / discordant**0.5, abs=1e-6)


@settings(max_examples=30)
@given(pairs(most=200), st.floats(-0.9, 0.9))
def test_tango_uses_the_constrained_maximum_of_the_likelihood(p, loss):
    """The closed form of q21 against a plain numeric search of the same likelihood."""
    b, c, n = p

    def unlikelihood(q21):
        q12 = q21 + loss
        rest = 1 - q12 - q21
        terms = [(b, q12), (c, q21), (n - b - c, rest)]
        return -sum(k * np.log(max(q, 1e-300)) for k, q in terms if k)

    found = optimize.minimize_scalar(
        unlikelihood, bounds=(max(0, -loss), (1 - loss) / 2), method="bounded", options={"xatol": 1e-12}
    ).x
    variance = n * (2 * found + loss - loss**2)
    if variance > 0.05:
        assert tango_score(p, loss) == pytest.approx((b - c - n * loss) / variance**0.5, rel=2e-2, abs=2e-2)


@settings(max_examples=50)
@given(pairs(), st.sampled_from([0.9, 0.95, 0.99]))
def test_tangos_interval_ends_where_scipy_finds_the_scores(p, confidence):
    z = stats.norm.ppf((1 + confidence) / 2)
    for end, score in zip(paired_interval(p, confidence), (z, -z), strict=True):
        if abs(end) < 1 - 1e-6:
            root = optimize.brentq(lambda loss, score=score: tango_score(p, loss) - score, -1 + 1e-9, 1 - 1e-9)
            assert end == pytest.approx(root, abs=1e-8)


def test_tangos_interval_is_the_published_one():
    """Source: Fagerland, Lydersen, Laake (2017), chapter 8, the airway table of Bentur et al.: -0.517 to -0.026."""
    assert paired_interval(PairCounts(1, 7, 21)) == pytest.approx((-0.517, -0.026), abs=5e-4)


@given(pairs())
def test_the_interval_holds_the_loss_and_the_bound_is_its_one_sided_edge(p):
    low, high = paired_interval(p)
    assert low - 1e-6 <= p.loss <= high + 1e-6
    assert loss_bound(p, 0.975) == pytest.approx(high, abs=1e-6)
    assert loss_bound(p) <= high + 1e-6


@given(st.integers(1, 100_000))
def test_equal_answers_still_leave_a_bound_above_zero(n):
    assert loss_bound(PairCounts(0, 0, n)) > 0


def test_the_interval_covers_the_truth_about_19_times_in_20():
    draws = np.random.default_rng(0).multinomial(200, [0.05, 0.03, 0.92], size=1000)
    intervals = [paired_interval(PairCounts(int(b), int(c), 200)) for b, c, _ in draws]
    assert 0.93 <= np.mean([low <= 0.02 <= high for low, high in intervals]) <= 0.98


def test_the_bound_covers_as_it_says():
    """Simulation: a true loss of 2 points among 400 rows is under the 95% bound in about 95% of draws."""
    rng = np.random.default_rng(0)
    draws = rng.multinomial(400, [0.05, 0.03, 0.92], size=1500)
    covered = np.mean([loss_bound(PairCounts(int(b), int(c), 400)) >= 0.02 for b, c, _ in draws])
    assert 0.93 <= covered <= 0.975


def test_pair_counts_the_discordant_rows():
    reference, rival = np.array([1, 1, 0, 1, 0], bool), np.array([1, 0, 1, 0, 0], bool)
    assert count_pairs(reference, rival) == PairCounts(2, 1, 5)


answers = st.lists(st.tuples(st.integers(0, 1000), st.booleans()), min_size=1, max_size=60)
"""(top probability in thousandths, whether it is right)"""


def arrays(rows):
    return np.array([top / 1000 for top, _ in rows], np.float32), np.array([right for _, right in rows])


@given(answers)
def test_the_calibration_error_is_the_plain_sum_over_bins_and_a_top_of_1_is_in_the_last(rows):
    tops, correct = arrays(rows)
    expected = 0.0
    for b in range(15):
        inside = [i for i, top in enumerate(tops) if b == min(int(top * np.float32(15)), 14)]
        expected += abs(sum(tops[i] for i in inside) - sum(correct[i] for i in inside)) / len(rows)
    assert calibration_error(tops, correct) == pytest.approx(expected, abs=1e-5)
    assert sum(b.n for b in calibration_bins(tops, correct)) == len(rows)


@given(answers)
def test_risk_and_coverage_are_those_of_the_rows_that_are_accepted(rows):
    tops, correct = arrays(rows)
    for confidence, coverage, risk in zip(*risk_coverage(tops, correct), strict=True):
        accepted = tops >= confidence
        if accepted.sum() == round(coverage * len(rows)):  # no two rows are equally sure here
            assert risk == pytest.approx((~correct[accepted]).mean())


@given(st.lists(st.sampled_from(["bus", "car", "\u00e9t\u00e9"]), max_size=30), st.integers(0, 40))
def test_rows_are_picked_one_of_each_class_in_turn(labels, count):
    """Twin: a queue a class."""
    queues = {label: [i for i, its_label in enumerate(labels) if its_label == label] for label in sorted(set(labels))}
    expected = []
    while any(queues.values()):
        expected += [queue.pop(0) for queue in queues.values() if queue]
    assert pick_balanced(np.array(labels), count).tolist() == expected[:count]


@pytest.mark.parametrize(("percentile", "count"), [(0.9, 64), (0.95, 130), (0.99, 662), (0.999, 6636)])
def test_early_stopping_counts_are_mlperfs(percentile, count):
    assert early_stopping_count(percentile) == count
    assert percentile_bound(np.arange(count - 1.0), percentile) is None
    assert percentile_bound(np.arange(float(count)), percentile) == count - 1


@given(st.sampled_from([0.9, 0.95, 0.99, 0.999]), st.integers(1, 50))
def test_an_early_stopping_count_is_the_first_that_scipys_binomial_allows(percentile, over):
    n = early_stopping_count(percentile, over=over)
    assert stats.binom.cdf(over, n, 1 - percentile) <= 0.01 < stats.binom.cdf(over, n - 1, 1 - percentile)


@given(st.sampled_from([0.9, 0.95, 0.99, 0.999]), st.integers(2, 200_000))
def test_the_bound_is_the_highest_rank_that_scipys_binomial_allows(percentile, n):
    over = int((stats.binom.cdf(np.arange(min(n, 30_000)), n, 1 - percentile) <= 0.01).sum()) - 1
    assert percentile_bound(np.arange(float(n)), percentile) == (n - over if over >= 1 else None)


def test_percentiles_are_not_claimed_from_too_few_samples():
    few = summarize(np.arange(63.0))
    assert (few.p90, few.p99, few.p99_9) == (None, None, None)
    assert summarize(np.arange(662.0)).p99 == pytest.approx(np.quantile(np.arange(662.0), 0.99))
