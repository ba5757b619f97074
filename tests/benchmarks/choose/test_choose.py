"""The rule of the choice, against a brute-force statement of it and on constructed cases."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.choose.candidate_metrics import CandidateMetrics
from benchmarks.choose.choice import choose as choose_from
from benchmarks.choose.explain import describe_choice, explain, explain_rule, role
from benchmarks.choose.policy import TIE_BREAKERS, Policy, read_policy
from benchmarks.choose.rule import apply_rule, measure_loss, pareto, reason_infeasible, rows_needed
from benchmarks.choose.sensitivity import step_over_budgets
from benchmarks.commands import measure
from core.codec import from_json, to_json
from core.errors import InputError
from core.files import write_json
from core.stats import PairCounts, loss_bound
from tests.benchmarks.conftest import make_run, result_of, results_of

CLASSES = ("car", "person")


def brute_force(field, policy, noise):
    """The rule stated again by brute force; it shares only Tango's bound with the code under test."""

    def cost(e):
        return sum(
            policy.miss_costs.get(CLASSES[y], 1.0) for y, p in zip(e.labels_n, e.predicted_n, strict=True) if y != p
        )

    def right(e):
        return sum(1 for y, p in zip(e.labels_n, e.predicted_n, strict=True) if y == p)

    def fits(e):
        if e.why_not or e.metrics["p99_ms"] > policy.p99_ms:
            return False
        if policy.size_mb is not None and (e.metrics["size_mb"] is None or e.metrics["size_mb"] > policy.size_mb):
            return False
        return policy.accuracy is None or right(e) / len(e.labels_n) >= policy.accuracy

    def bound(reference, e):
        total = sum(policy.miss_costs.get(CLASSES[y], 1.0) for y in reference.labels_n)
        loss, square = 0.0, 0.0
        costs = [policy.miss_costs.get(name, 1.0) for name in CLASSES]
        for value in set(costs):
            rows = [i for i, y in enumerate(reference.labels_n) if costs[y] == value]
            if not rows:
                continue
            b = sum(1 for i in rows if reference.correct_n[i] and not e.correct_n[i])
            c = sum(1 for i in rows if not reference.correct_n[i] and e.correct_n[i])
            share = value * len(rows) / total
            seen = (b - c) / len(rows)
            loss += share * seen
            square += (share * (loss_bound(PairCounts(b, c, len(rows))) - seen)) ** 2
        return loss + square**0.5

    fit = [e for e in field if fits(e)]
    if not fit:
        return None
    reference = sorted(
        fit, key=lambda e: (round(cost(e), 6), e.metrics["p50_ms"], -right(e), e.metrics["size_mb"], e.name)
    )[0]
    able = [reference]
    for e in fit:
        faster = e is not reference and e.metrics["p50_ms"] * (1 + noise) < reference.metrics["p50_ms"]
        if faster and bound(reference, e) < policy.margin:
            able.append(e)
    best = None
    for e in able:
        if any(e.metrics["p50_ms"] > o.metrics["p50_ms"] * (1 + noise) for o in able):
            continue
        key = (-right(e), e.metrics["size_mb"], e.metrics["p50_ms"], e.name)
        if best is None or key < best[0]:
            best = (key, e.name)
    return best[1]


def make(name, labels, predicted, p50, p99, size, why_not=""):
    figures = {"p50_ms": p50, "p99_ms": p99, "size_mb": size}
    return CandidateMetrics(name, np.array(labels), np.array(predicted), CLASSES, figures, why_not)


@st.composite
def fields(draw):
    rows = draw(st.integers(5, 400))
    labels = np.random.default_rng(draw(st.integers(0, 2**16))).integers(0, 2, rows)
    base = np.random.default_rng(draw(st.integers(0, 2**16))).random(rows) < 0.15
    field = []
    for i in range(draw(st.integers(1, 6))):
        rate = draw(st.sampled_from([0, 0.01, 0.05, 0.3]))
        flips = np.random.default_rng(draw(st.integers(0, 2**16))).random(rows) < rate
        p50 = draw(st.sampled_from([1.0, 1.02, 2.0, 5.0, 30.0]))
        p99 = p50 * draw(st.sampled_from([1.0, 1.5, 4.0]))
        why_not = "for latency only" if draw(st.integers(0, 3)) == 0 else ""
        field.append(
            make(f"c{i}", labels, labels ^ base ^ flips, p50, p99, draw(st.sampled_from([1.0, 10.0])), why_not)
        )
    return field


policies = st.builds(
    Policy,
    p99_ms=st.sampled_from([3.0, 33.0]),
    margin=st.sampled_from([0.005, 0.01, 0.05, 0.2]),
    size_mb=st.sampled_from([None, None, 5.0]),
    accuracy=st.sampled_from([None, None, 0.8]),
    miss_costs=st.sampled_from([{}, {}, {"person": 5.0}]),
)


@settings(max_examples=300)
@given(fields(), policies, st.sampled_from([0.0, 0.025]))
def test_the_choice_is_that_of_the_brute_force_rule(field, policy, noise):
    chosen = apply_rule(field, policy, noise).chosen
    assert (chosen.name if chosen else None) == brute_force(field, policy, noise)


@settings(max_examples=60)
@given(fields(), policies)
def test_every_candidate_is_told_why_and_no_infeasible_one_wins(field, policy):
    ranking = apply_rule(field, policy)
    said = [explain(e, ranking, policy) for e in field]
    assert all(said)
    chosen = [e for e in field if role(e, ranking) == "chosen"]
    assert chosen == ([ranking.chosen] if ranking.chosen else [])
    assert {e.name for e in field if role(e, ranking) == "rejected"} == set(ranking.infeasible)
    for e in chosen:
        assert not e.why_not
        assert e.metrics["p99_ms"] <= policy.p99_ms
    assert describe_choice(ranking, field, policy).startswith(chosen[0].name if chosen else "no candidate can go")


@settings(max_examples=60)
@given(fields(), st.randoms())
def test_the_order_of_the_candidates_does_not_matter(field, random):
    shuffled = list(field)
    random.shuffle(shuffled)
    first, other = apply_rule(field, Policy()).chosen, apply_rule(shuffled, Policy()).chosen
    assert (first and first.name) == (other and other.name)


@given(fields())
def test_no_candidate_off_the_front_beats_all_on_it(field):
    front = pareto(field)
    for e in field:
        beaten = any(
            o.correct_n.mean() >= e.correct_n.mean() and o.metrics["p50_ms"] <= e.metrics["p50_ms"] for o in front
        )
        assert beaten
    times = [e.metrics["p50_ms"] for e in front]
    accuracies = [e.correct_n.mean() for e in front]
    assert times == sorted(times)
    assert accuracies == sorted(accuracies)


def metrics(name, wrong, p50, n=1000, p99=None, why_not=""):
    labels = np.arange(n) % 2
    predicted = labels.copy()
    predicted[list(wrong)] ^= 1
    return make(name, labels, predicted, p50, p99 or p50 * 1.2, 1.0, why_not)


def choose(field, policy=Policy()):  # noqa: B008 - frozen
    ranking = apply_rule(field, policy)
    return ranking, {e.name: explain(e, ranking, policy) for e in field}


def test_a_faster_one_that_is_shown_to_be_as_good_wins():
    ranking, why = choose([metrics("slow", range(50), 10), metrics("fast", range(1, 52), 2)])
    assert (ranking.chosen.name, ranking.reference.name) == ("fast", "slow")
    assert "faster than slow by a factor of 5.00" in why["fast"]
    assert "fast is faster" in why["slow"]


def test_a_faster_one_that_is_one_row_behind_on_few_rows_does_not_win():
    """Missing evidence is not equality: 40 rows cannot show that a loss is under one point."""
    field = [metrics("slow", [0], 10, n=40), metrics("fast", [0, 1], 2, n=40)]
    ranking, why = choose(field)
    assert ranking.chosen.name == "slow"
    assert "its accuracy may be up to" in why["fast"]
    too_few = f"40 test rows cannot show a loss under 1 point: at least {rows_needed(np.ones(40), 0.01)} can"
    assert why["fast"].endswith(too_few)
    assert too_few in describe_choice(ranking, field, Policy())
    # no faster one lost: more rows would change nothing
    assert "test rows cannot" not in describe_choice(choose(field[:1])[0], field[:1], Policy())


@pytest.mark.parametrize("policy", [Policy(), Policy(margin=0.005), Policy(miss_costs={"person": 5})])
def test_so_many_rows_as_are_needed_can_show_a_loss_under_the_margin_and_fewer_cannot(policy):
    """With a row missed more, of either class: of candidates that are equal the faster one is the reference."""
    needed = rows_needed(metrics("slow", [], 10, n=40).weights(policy), policy.margin)
    even = needed + needed % 2  # as many rows of each class
    for n, can in ((even, True), (even - 2, False)):
        pairs = [[metrics("slow", [], 10, n=n), metrics("fast", [row], 2, n=n)] for row in (0, 1)]
        assert ("fast" in {choose(pair, policy)[0].chosen.name for pair in pairs}) == can


def test_no_pattern_of_answers_shows_a_loss_with_fewer_rows_than_needed():
    fewer = rows_needed(np.ones(45), 0.01) - 1
    assert all(loss_bound(PairCounts(both + 1, both, fewer)) >= 0.01 for both in range(fewer // 2))


def test_a_missed_person_can_cost_the_victory():
    """The same count of misses, but of people: with equal costs the faster one wins, with a costly person it loses."""
    slow, fast = metrics("slow", range(0, 40, 2), 10), metrics("fast", range(1, 41, 2), 2)
    assert choose([slow, fast], Policy(margin=0.03))[0].chosen.name == "fast"
    assert choose([slow, fast], Policy(margin=0.03, miss_costs={"person": 10}))[0].chosen.name == "slow"


def test_equal_costs_leave_the_plain_bound():
    slow, fast = metrics("slow", range(50), 10), metrics("fast", range(1, 60), 2)
    loss = measure_loss(slow, fast, Policy())
    assert loss.bound == pytest.approx(loss_bound(loss.pairs))
    assert loss.bound == pytest.approx(measure_loss(slow, fast, Policy(miss_costs={"car": 3, "person": 3})).bound)


def test_nothing_fits_is_said_with_the_nearest():
    field = [metrics("a", [], 50), metrics("b", [], 40)]
    ranking, _ = choose(field)
    assert ranking.chosen is None
    sentence = describe_choice(ranking, field, Policy())
    assert "the nearest is b: the p99 of a frame, 48 ms, is over the budget of 33 ms" in sentence


def test_the_nearest_is_the_one_that_a_raised_budget_would_choose_first():
    """A median that is the fastest does not make a candidate near: its p99 may be the farthest from the budget."""
    field = [metrics("fast", [], 1, p99=93), metrics("slow", [], 11, p99=78), metrics("middle", [], 5, p99=83)]
    ranking, _ = choose(field)
    assert "the nearest is slow: the p99 of a frame, 78 ms" in describe_choice(ranking, field, Policy())
    first = next(step for step in step_over_budgets(field, Policy(), 0.0) if step.chosen)
    assert (first.start, first.chosen) == (78, "slow")


def test_where_nothing_fits_because_the_timing_was_disturbed_it_says_so_and_what_to_do():
    results = results_of(result_of(times_ms=np.full((4, 200), 50.0)))
    noisy = replace(results, noise=replace(results.noise, spread=0.5))
    remedy = "the timing was disturbed: measure again on a quiet machine, or raise p99_ms with --policy"
    assert choose_from(noisy, Policy()).sentence.endswith(remedy)
    assert choose_from(results, Policy()).sentence.endswith(
        "; change the limits with --policy, or train another network"
    )
    # the file is too large on a quiet machine, too
    assert "disturbed" not in choose_from(noisy, Policy(size_mb=0.0001)).sentence


def test_the_nearest_is_by_the_limit_that_is_broken_most():
    worse = metrics("over in p99 a little, in accuracy much", range(400), 1, p99=34)
    field = [worse, metrics("over in p99 more", [], 5, p99=40)]
    policy = Policy(accuracy=0.9)
    assert "the nearest is over in p99 more:" in describe_choice(choose(field, policy)[0], field, policy)
    unknown = replace(field[1], name="unknown", metrics={"p50_ms": 1.0, "p99_ms": None})
    assert "the nearest is over" in describe_choice(choose([unknown, worse], policy)[0], [unknown, worse], policy)


def test_a_limit_on_what_was_not_measured_is_not_met():
    ranking, why = choose([metrics("a", [], 1)], Policy(age_ms=100))
    assert ranking.chosen is None
    assert "was not measured" in why["a"]


def test_a_bundle_that_is_for_latency_only_is_never_chosen():
    ranking, why = choose([metrics("other size", [], 1, why_not="for latency only"), metrics("own", range(300), 20)])
    assert ranking.chosen.name == "own"
    assert why["other size"] == "for latency only"


def on_frames(name, missed, alarmed=(), n=400, **more):
    """The faster the more objects it misses, and right on all test rows."""
    right_n, quiet_n = ~np.isin(np.arange(n), missed), ~np.isin(np.arange(n), alarmed)
    return replace(metrics(name, [], 10 - len(missed) / 50), frames={"right_n": right_n, "quiet_n": quiet_n}, **more)


def test_one_that_is_shown_to_be_worse_on_labeled_frames_is_not_chosen_however_fast():
    field = [on_frames("good", range(40)), on_frames("hasty", range(20, 80))]
    ranking, why = choose(field)
    assert ranking.chosen.name == "good"
    assert why["hasty"].startswith("85.0% of the objects in labeled frames are named rightly, against 90.0% with good")
    assert choose(field, Policy(frame_loss=None))[0].chosen.name == "hasty"
    assert choose(field, Policy(frame_loss=0.05))[0].chosen.name == "hasty"


def test_a_loss_in_a_few_crowded_frames_may_be_chance():
    """The 60 objects are those of 3 frames with 20 each: as independent ones they would show a loss."""
    frame_of = {"right_n": np.arange(400) // 20}
    crowded = [replace(c, frame_of=frame_of) for c in (on_frames("good", []), on_frames("fast", range(60)))]
    assert choose(crowded)[0].chosen.name == "fast"
    spread = [replace(c, frame_of={"right_n": np.arange(400) % 20}) for c in crowded]
    assert choose(spread)[0].chosen.name == "good"


def test_a_difference_on_labeled_frames_within_the_noise_decides_nothing():
    assert choose([on_frames("good", range(40)), on_frames("fast", range(1, 43))])[0].chosen.name == "fast"


def test_of_equals_in_objects_one_with_more_false_alarms_is_not_chosen():
    field = [on_frames("quiet", range(40)), on_frames("loud", range(42), alarmed=range(30))]
    ranking, why = choose(field)
    assert ranking.chosen.name == "quiet"
    assert "have no false alarm, against 100.0% with quiet" in why["loud"]
    louder = on_frames("quiet", range(100), alarmed=range(9)), on_frames("sees", range(40), alarmed=range(90))
    assert choose(louder)[0].chosen.name == "sees", "objects come first, and something is left"


def test_where_others_have_frames_one_without_is_not_chosen():
    ranking, why = choose([on_frames("seen", range(40)), replace(on_frames("unseen", range(50)), frames={})])
    assert ranking.chosen.name == "seen"
    assert why["unseen"] == "it was not measured on the labeled frames"


def test_a_class_can_have_a_floor_on_frames():
    metric = on_frames("a", [], metrics={"p50_ms": 1.0, "frame_recalls.person": 0.5})
    assert choose([metric], Policy(p99_ms=None, frame_recalls={"person": 0.5}))[0].chosen
    for label in ("person", "bus"):  # under the floor, and not there
        _, why = choose([metric], Policy(p99_ms=None, frame_recalls={label: 0.6}))
        assert f"names rightly, of {label}" in why["a"]


def test_the_best_of_all_is_not_said_of_one_that_another_outdoes():
    best, out = metrics("best", range(20), 5), metrics("out", range(10), 9, why_not="bf16 was not proved")
    _, why = choose([best, out])
    assert "the most accurate of those that may be chosen (out, 99.0%, may not: bf16 was not proved)" in why["best"]
    _, why = choose([best, metrics("out", range(30), 9, why_not="bf16 was not proved")])
    assert why["best"].startswith("it is the most accurate, and")


@pytest.mark.parametrize("name", TIE_BREAKERS)
def test_a_tie_is_explained_by_the_figure_that_breaks_it(name):
    reference, loser = metrics("reference", range(40), 10), metrics("loser", range(1, 51), 2)
    better = {"accuracy": {}, "p50_ms": {"p50_ms": 1.99}}.get(name, {name: 0.5})
    wrong = range(1, 50) if name == "accuracy" else range(1, 51)
    winner = replace(metrics("winner", wrong, 2), metrics={**loser.metrics, "cold_start_ms": 9.0, **better})
    loser = replace(loser, metrics={**loser.metrics, "cold_start_ms": 9.0})
    policy = Policy(margin=0.05, tie_breakers=(name,))
    ranking = apply_rule([reference, loser, winner], policy, 0.025)
    assert ranking.chosen is winner
    why = explain(loser, ranking, policy)
    assert "more accurate by 0.10 points" in why if name == "accuracy" else f"better in {TIE_BREAKERS[name]}" in why


def test_the_rule_in_words_names_every_limit():
    said = explain_rule(Policy(age_ms=100, worst_recall=0.5, miss_costs={"person": 5}, frame_recalls={"bus": 0.3}))
    for part in ("33 ms", "100 ms", "50%", "person 5", "under 1 point.", "of bus, at least 30%", "above 0 points"):
        assert part in said


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("p99_ms", 0),
        ("p99_ms", float("nan")),
        ("margin", 0),
        ("margin", 1),
        ("accuracy", 1.5),
        ("ece", 2),
        ("objective", "luck"),
        ("tie_breakers", ("luck",)),
        ("miss_costs", {"person": -1}),
        ("miss_costs", {"person": 1e300}),
        ("frame_recalls", {"person": 2}),
        ("frame_loss", 1),
        ("frame_loss", -0.1),
        ("false_alarms_per_100", -1),
    ],
)
def test_a_policy_that_means_nothing_is_refused_by_name(field, value):
    with pytest.raises(InputError, match=f"policy.{field}"):
        Policy(**{field: value})


def test_a_policy_may_ask_for_no_false_alarm_at_all():
    policy, alone = Policy(false_alarms_per_100=0), make("alone", [0], [0], 1.0, 2.0, 1.0)
    quiet, loud = (replace(alone, metrics={**alone.metrics, "false_alarms_per_100": alarms}) for alarms in (0.0, 0.1))
    assert reason_infeasible(quiet, policy) is None
    assert "0.1 alarms, is over the budget of 0 alarms" in reason_infeasible(loud, policy)


def test_a_policy_survives_its_file(tmp_path):
    policy = Policy(p99_ms=5, age_ms=100, miss_costs={"person": 5}, tie_breakers=("size_mb",))
    write_json(tmp_path / "policy.json", to_json(policy))
    assert read_policy(tmp_path / "policy.json") == policy


def test_a_cost_of_a_class_that_no_row_has_is_refused_before_anything_is_measured(tmp_path):
    with pytest.raises(InputError, match=r"policy\.miss_costs names 'persn': choose from car, person"):
        Policy(miss_costs={"persn": 5}).check_classes(["car", "person"])
    run, policy = make_run(tmp_path / "run", ("tiny_a",), ("fp32",)), tmp_path / "policy.json"
    policy.write_text('{"miss_costs": {"persn": 5}}')
    with pytest.raises(InputError, match=r"policy\.miss_costs names 'persn'"):
        measure.main([str(run), "--quick", "--policy", str(policy)])
    assert not (run / "report").exists()


GARBAGE = [
    None,
    True,
    -1,
    10**400,
    float("nan"),
    float("inf"),
    "x",
    [],
    [None],
    {"a": None},
    {"a": 10**400},
    99 * ["x"],
]


def problem_of(read, file):
    """Return the sentence by which a file is refused, or the beginning of each such sentence where it is read."""
    try:
        read(file)
    except InputError as error:
        return str(error)
    return f"{file}: "


@pytest.mark.parametrize("name", list(to_json(Policy())))
def test_anything_in_any_field_of_a_policy_is_read_or_one_short_sentence(tmp_path, name):
    file = tmp_path / "policy.json"
    for value in GARBAGE:
        file.write_text(json.dumps({name: value}))
        problem = problem_of(read_policy, file)
        assert problem.startswith((f"{file}: ", f"{file} is not readable JSON ("))
        assert len(problem) < len(str(file)) + 200


@pytest.mark.parametrize(
    "body", [{"budget": 1}, [], {"equals": ["accuracy"]}, {"tie_breakers": "accuracy"}, {"p99_ms": "x"}]
)
def test_a_policy_file_with_an_unknown_word_or_a_wrong_type_is_refused(tmp_path, body):
    write_json(tmp_path / "policy.json", body)
    with pytest.raises(InputError, match=r"policy\.json"):
        read_policy(tmp_path / "policy.json")


def test_a_figure_is_taken_from_the_rows():
    e = metrics("a", range(0, 20, 2), 1)
    assert e.metric("accuracy") == 0.99
    assert e.metric("worst_recall") == pytest.approx(1 - 10 / 500)
    assert replace(e, metrics={}).metric("p99_ms") is None


def test_the_page_on_the_policy_names_every_field_and_its_default():
    page = (Path(__file__).parents[3] / "docs" / "benchmark.md").read_text()
    said = dict(re.findall(r"^\| `(\w+)` \| (.+?) \|", page, re.M))
    assert {name: json.loads(text) for name, text in said.items()} == to_json(Policy())
    from_json(Policy, json.loads(re.search(r"```json\n(.*?)```", page, re.S)[1]), "benchmark.md")
