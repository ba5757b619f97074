"""The rule of the choice, against a brute-force statement of it and on constructed cases."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.choose import Evidence, Policy, choose
from benchmarks.statistics import Pairs, loss_bound
from inference.errors import InputError


def brute_force(field, policy, noise):
    """The rule again, in the plainest words there are: no sharing with the code under test but the bound."""
    fit = [e for e in field if e.selectable and e.p99_ms <= policy.p99_ms]
    if not fit:
        return None
    reference = sorted(fit, key=lambda e: (-sum(e.correct_n), e.p50_ms, e.bytes, e.name))[0]
    able = [reference]
    for e in fit:
        if e is reference or not e.p50_ms * (1 + noise) < reference.p50_ms:
            continue
        b = sum(1 for mine, theirs in zip(reference.correct_n, e.correct_n, strict=True) if mine and not theirs)
        c = sum(1 for mine, theirs in zip(reference.correct_n, e.correct_n, strict=True) if theirs and not mine)
        if loss_bound(Pairs(b, c, len(e.correct_n))) < policy.margin:
            able.append(e)
    best = None
    for e in able:
        if any(e.p50_ms > o.p50_ms * (1 + noise) for o in able):
            continue
        key = (-sum(e.correct_n), e.bytes, e.p50_ms, e.name)
        if best is None or key < best[0]:
            best = (key, e.name)
    return best[1]


@st.composite
def fields(draw):
    rows = draw(st.integers(5, 400))
    base = np.random.default_rng(draw(st.integers(0, 2**16))).random(rows) < 0.85
    field = []
    for i in range(draw(st.integers(1, 6))):
        flips = np.random.default_rng(draw(st.integers(0, 2**16))).random(rows) < draw(
            st.sampled_from([0, 0.01, 0.05, 0.3])
        )
        p50 = draw(st.sampled_from([1.0, 1.02, 2.0, 5.0, 30.0]))
        field.append(
            Evidence(
                name=f"c{i}",
                correct_n=base ^ flips,
                p50_ms=p50,
                p99_ms=p50 * draw(st.sampled_from([1.0, 1.5, 4.0])),
                bytes=draw(st.sampled_from([100, 1000])),
                selectable=draw(st.booleans()) or draw(st.booleans()),
            )
        )
    return field


@settings(max_examples=300)
@given(fields(), st.sampled_from([3.0, 33.0]), st.sampled_from([0.005, 0.01, 0.05, 0.2]), st.sampled_from([0.0, 0.025]))
def test_the_choice_is_that_of_the_brute_force_rule(field, budget, margin, noise):
    policy = Policy(p99_ms=budget, margin=margin)
    assert choose(field, policy, noise).chosen == brute_force(field, policy, noise)


@given(fields(), st.sampled_from([3.0, 33.0]))
def test_every_candidate_is_told_why_and_none_unfit_wins(field, budget):
    choice = choose(field, Policy(p99_ms=budget))
    assert [v.name for v in choice.verdicts] and {v.name for v in choice.verdicts} == {e.name for e in field}
    assert all(v.why for v in choice.verdicts)
    assert [v.name for v in choice.verdicts if v.role == "chosen"] == ([choice.chosen] if choice.chosen else [])
    by_name = {e.name: e for e in field}
    if choice.chosen:
        assert by_name[choice.chosen].selectable
        assert by_name[choice.chosen].p99_ms <= budget


@given(fields(), st.randoms())
def test_the_order_of_the_candidates_does_not_matter(field, random):
    shuffled = list(field)
    random.shuffle(shuffled)
    assert choose(field, Policy()).chosen == choose(shuffled, Policy()).chosen


def evidence(name, wrong, p50, n=1000, **more):
    correct = np.ones(n, bool)
    correct[list(wrong)] = False
    return Evidence(name=name, correct_n=correct, p50_ms=p50, p99_ms=more.pop("p99", p50 * 1.2), bytes=1, **more)


def test_a_faster_one_that_is_shown_to_be_as_good_wins():
    choice = choose([evidence("slow", range(50), 10), evidence("fast", range(1, 52), 2)], Policy())
    assert (choice.chosen, choice.reference) == ("fast", "slow")
    assert "5.00x as fast" in choice.sentence


def test_a_faster_one_that_is_one_row_behind_on_few_rows_does_not_win():
    """Missing evidence is not equality: 40 rows cannot show that a loss is under one point."""
    few = [evidence("slow", [0], 10, n=40), evidence("fast", [0, 1], 2, n=40)]
    assert choose(few, Policy()).chosen == "slow"
    assert "may lose up to" in {v.name: v.why for v in choose(few, Policy()).verdicts}["fast"]


def test_nothing_fits_is_said_with_the_nearest():
    choice = choose([evidence("a", [], 50), evidence("b", [], 40)], Policy(p99_ms=33))
    assert choice.chosen is None
    assert "b" in choice.sentence
    assert "48.00 ms" in choice.sentence


def test_a_bundle_that_is_for_latency_only_is_never_chosen():
    choice = choose([evidence("other size", [], 1, selectable=False), evidence("own size", range(300), 20)], Policy())
    assert choice.chosen == "own size"


@pytest.mark.parametrize(("field", "value"), [("p99_ms", 0), ("p99_ms", float("nan")), ("margin", 0), ("margin", 1)])
def test_a_policy_that_means_nothing_is_refused_by_name(field, value):
    with pytest.raises(InputError, match=f"policy.{field}"):
        Policy(**{field: value})
