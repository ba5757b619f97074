"""Intervals over rows of which those of one cluster are alike."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.clusters import clustered_wilson, design_effect, dispersion
from core.stats import Interval, PairCounts, paired_interval, poisson_interval, wilson

ROUNDS = 1000


def draw_sizes(random, clusters, most=8):
    return np.repeat(np.arange(clusters), random.integers(1, most + 1, clusters))


def covers(interval: Interval, truth: float) -> bool:
    return interval.low <= truth <= interval.high


@pytest.mark.parametrize(("clusters", "part", "correlation"), [(40, 0.8, 0.3), (20, 0.5, 0.3), (150, 0.6, 0.5)])
def test_the_interval_covers_where_the_one_of_independent_rows_does_not(clusters, part, correlation):
    """Each frame has its own part of right objects, by a beta distribution of this intraclass correlation."""
    random, covered = np.random.default_rng(0), np.zeros(2)
    shape = (1 - correlation) / correlation
    for _ in range(ROUNDS):
        cluster_n = draw_sizes(random, clusters)
        parts_c = random.beta(part * shape, (1 - part) * shape, clusters)
        hits_n = random.random(len(cluster_n)) < parts_c[cluster_n]
        naive = wilson(int(hits_n.sum()), len(hits_n))
        covered += covers(clustered_wilson(hits_n, cluster_n), part), covers(naive, part)
    assert covered[0] / ROUNDS == pytest.approx(0.95, abs=0.03)
    assert covered[1] / ROUNDS < 0.85


def test_the_paired_interval_covers_where_the_one_of_independent_rows_does_not():
    random, covered, loss = np.random.default_rng(0), np.zeros(2), 0.05
    for _ in range(ROUNDS // 4):
        cluster_n = draw_sizes(random, 40)
        parts_c3 = random.dirichlet(np.array([0.1 + loss, 0.1, 0.8 - loss]) * 7 / 3, 40)  # correlation 0.3
        drawn_n = (random.random(len(cluster_n))[:, None] > parts_c3.cumsum(1)[cluster_n]).sum(1)
        pairs = PairCounts(int((drawn_n == 0).sum()), int((drawn_n == 1).sum()), len(drawn_n))
        deff = design_effect((drawn_n == 0).astype(int) - (drawn_n == 1), cluster_n)
        covered += covers(paired_interval(pairs, deff=deff), loss), covers(paired_interval(pairs), loss)
    assert covered[0] / (ROUNDS // 4) == pytest.approx(0.95, abs=0.04)
    assert covered[1] / (ROUNDS // 4) < 0.85


def test_the_interval_of_a_count_covers_where_frames_give_several_at_once():
    random, covered = np.random.default_rng(0), np.zeros(2)
    for _ in range(ROUNDS):
        counts_c = random.poisson(3, 100) * (random.random(100) < 0.2)
        count = int(counts_c.sum())
        covered += covers(poisson_interval(count, dispersion(counts_c)), 60), covers(poisson_interval(count), 60)
    assert covered[0] / ROUNDS == pytest.approx(0.95, abs=0.03)
    assert covered[1] / ROUNDS < 0.8


@pytest.mark.parametrize("together", [2, 20, 32])
@pytest.mark.parametrize("count", [0, 1, 2, 60])
def test_events_that_come_several_at_a_time_count_as_one(count, together):
    alone = poisson_interval(count)
    interval = poisson_interval(together * count, together)
    assert interval == pytest.approx((together * alone.low, together * alone.high))


@given(st.lists(st.booleans(), min_size=2, max_size=60), st.integers(1, 9))
def test_rows_of_their_own_clusters_are_independent_and_copies_of_a_row_are_no_rows(hits, copies):
    hits_n = np.array(hits)
    alone = clustered_wilson(hits_n, range(len(hits)))
    assert alone == pytest.approx(wilson(sum(hits), len(hits)))
    if 0 < sum(hits) < len(hits):
        copied = clustered_wilson(np.repeat(hits_n, copies), np.repeat(np.arange(len(hits)), copies))
        assert copied.high - copied.low >= 0.99 * (alone.high - alone.low)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), max_size=40))
def test_it_holds_the_proportion_and_is_never_narrower_than_that_of_independent_rows(rows):
    hits_n = np.array([hit for hit, _ in rows], bool)
    low, high = clustered_wilson(hits_n, [cluster for _, cluster in rows])
    naive = wilson(int(hits_n.sum()), len(rows))
    assert 0 <= low <= naive.low + 1e-12
    assert naive.high - 1e-12 <= high <= 1


def test_one_cluster_counts_as_one_row():
    assert design_effect(np.array([1, 0, 1, 1]), np.zeros(4)) == 4
    assert dispersion(np.array([7])) == dispersion(np.zeros(5)) == 1
