"""The abstain rule for one probability and for many, and the choice of its threshold."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.bundle.abstain import LEAST_COVERAGE, AbstainRule, choose_threshold
from core.stats import risk_coverage

PROBS = st.floats(0, 1, width=32)


@given(st.floats(0, 1, width=32), st.lists(PROBS, min_size=1))
def test_each_of_many_is_accepted_as_it_is_alone(threshold, probs):
    rule = AbstainRule(threshold)
    probs_n = np.array([*probs, threshold, 0.0], np.float32)
    assert rule.accepts_each(probs_n).tolist() == [rule.accepts(prob) for prob in probs_n.tolist()]


def test_the_threshold_itself_is_accepted_but_a_probability_of_0_never():
    assert AbstainRule(0.5).accepts(0.5)
    assert not AbstainRule(0.5).accepts(0.49)
    assert not AbstainRule(0.0).accepts(0.0)


@given(st.integers(0, 10_000), st.floats(0.0, 0.5))
def test_the_threshold_keeps_the_risk_or_half_of_the_rows(seed, risk):
    random = np.random.default_rng(seed)
    tops_n = random.uniform(0.2, 1, 200).astype(np.float32)
    correct_n = random.uniform(0, 1, 200) < tops_n
    chosen = choose_threshold(*risk_coverage(tops_n, correct_n), risk)
    accepted_n = AbstainRule(chosen["threshold"]).accepts_each(tops_n)
    wrong = (~correct_n)[accepted_n].mean()
    assert accepted_n.mean() == pytest.approx(chosen["coverage"], abs=1e-6)
    assert wrong == pytest.approx(chosen["risk"])
    assert wrong <= risk + 1e-6 or accepted_n.mean() <= 0.51


@given(
    st.lists(st.tuples(st.sampled_from([0.3, 0.5, 0.8, 0.9, 1.0]), st.booleans()), min_size=1, max_size=20),
    st.sampled_from([0.0, 0.05, 0.25, 0.5]),
)
def test_with_ties_the_threshold_is_the_best_of_all_that_the_rule_can_reach(rows, risk_wanted):
    """Twin: the rule itself at each probability that occurs."""
    tops_n = np.array([top for top, _ in rows], np.float32)
    correct_n = np.array([correct for _, correct in rows])

    def reach(threshold):
        accepted_n = AbstainRule(threshold).accepts_each(tops_n)
        return (~correct_n)[accepted_n].mean(), accepted_n.mean()

    chosen = choose_threshold(*risk_coverage(tops_n, correct_n), risk_wanted)
    assert reach(chosen["threshold"]) == pytest.approx((chosen["risk"], chosen["coverage"]))
    acceptable = []
    for threshold in np.unique(tops_n).tolist():
        risk, coverage = reach(threshold)
        if risk <= risk_wanted or coverage <= LEAST_COVERAGE:
            acceptable.append(threshold)
    lowest = min(acceptable, default=tops_n.max())
    assert reach(chosen["threshold"]) == reach(lowest)


def test_a_perfect_network_never_abstains():
    chosen = choose_threshold(*risk_coverage(np.full(40, 0.94), np.ones(40, bool)), 0.05)
    assert (chosen["threshold"], chosen["coverage"]) == (0, 1)
