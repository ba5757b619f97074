"""The abstain rule for one probability and for many."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from core.bundle.abstain import AbstainRule

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
