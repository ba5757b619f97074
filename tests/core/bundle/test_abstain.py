"""The abstain rule for one probability and for many, and the choice of its threshold."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.bundle.abstain import AbstainRule, choose_threshold
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


def test_a_perfect_network_never_abstains():
    chosen = choose_threshold(*risk_coverage(np.full(40, 0.94), np.ones(40, bool)), 0.05)
    assert (chosen["threshold"], chosen["coverage"]) == (0, 1)
