"""Corruptions, out-of-distribution pictures, calibration and the sensitivity of the choice."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from benchmarks.choose.policy import Policy
from benchmarks.choose.rule import apply_rule
from benchmarks.choose.sensitivity import LimitStep, bootstrap_choice, describe_changes, step_over_budgets
from benchmarks.measure.accuracy import score
from benchmarks.measure.candidates import list_candidates, open_bundles
from benchmarks.measure.profiles import PROFILES, SEVERITIES, Profile
from benchmarks.measure.robustness.corruptions import CORRUPTIONS, corrupt
from benchmarks.measure.robustness.file_robustness import measure_robustness, sample_rows
from benchmarks.measure.robustness.ood import auroc, make_ood
from core.data.pack import open_pack
from core.data.run_dir import open_run
from core.errors import InputError
from core.geometry.preprocess import Geometry
from core.synthetic import Scene
from tests.benchmarks.choose.test_choose import metrics


@pytest.fixture(scope="module")
def picture():
    return np.ascontiguousarray(Scene(0, 96, 96).render(0)[0][..., ::-1])


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corruption_is_deterministic_and_grows_with_severity(picture, name):
    changes = []
    for severity in SEVERITIES:
        made = [corrupt(picture, name, severity, seed) for seed in range(6)]
        assert all(m.shape == picture.shape and m.dtype == np.uint8 for m in made)
        np.testing.assert_array_equal(made[1], corrupt(picture, name, severity, 1))
        changes.append(np.mean([np.abs(m.astype(float) - picture).mean() for m in made]))
    assert changes[0] > 0
    assert changes == sorted(changes), "each severity must change more than the one before"


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30), st.lists(st.integers(0, 5), min_size=1, max_size=30))
def test_auroc_is_that_of_scikit_learn(known, strange):
    labels = [1] * len(known) + [0] * len(strange)
    expected = roc_auc_score(labels, [*known, *strange])
    assert auroc(np.array(known, float), np.array(strange, float)) == pytest.approx(expected)


def test_an_empty_road_is_out_of_distribution_only_without_a_background():
    with_road = make_ood(Geometry(32), None, None, 3)
    without = make_ood(Geometry(32), "clear", None, 3)
    assert set(with_road) - set(without) == {"empty road (synthetic)"}
    assert all(images.shape == (3, 32, 32, 3) and images.dtype == np.uint8 for images in with_road.values())


def test_a_folder_without_a_picture_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no picture"):
        make_ood(Geometry(32), "clear", tmp_path, 3)


def test_rows_are_drawn_from_every_class_in_proportion(run_folder):
    pack = open_pack(run_folder / "pack")
    rows = sample_rows(pack, 0.001, Profile(corrupted_rows=(12, 12)))
    assert np.bincount(rows.labels_n).tolist() == [4, 4, 4]


def test_robustness_is_measured_once_for_a_precision(run_folder):
    run = open_run(run_folder)
    candidates = list_candidates(open_bundles(run), ["ort"])
    profile = Profile(corrupted_rows=(9, 9), severities=(1, 5))
    found = measure_robustness(candidates, 1.0, run.open_pack(), None, profile)
    assert set(found) == {(a, p) for a in ("tiny_a", "tiny_b") for p in ("fp32", "int8")}
    for body in found.values():
        assert body.rows == 9
        assert {len(cells) for cells in body.cells.values()} == {2}
        assert body.mean == pytest.approx(np.mean(list(body.cells.values())))


def test_the_last_step_of_risk_and_coverage_accepts_all():
    rng = np.random.default_rng(0)
    correct = rng.random(500) < 0.7
    probs = np.stack([tops := rng.uniform(0.5, 1, 500), 1 - tops], axis=1).astype(np.float32)
    body = score((~correct).astype(np.int64), probs, ("a", "b"))
    assert body.risk_coverage[-1] == pytest.approx([1.0, 1 - correct.mean()])


def test_the_sensitivity_is_what_the_rule_says_at_each_budget():
    candidates = [metrics("a", range(50), 10), metrics("b", range(1, 52), 2), metrics("c", range(300), 0.5)]
    steps = step_over_budgets(candidates, Policy(), 0.0)
    assert steps == (LimitStep(0.6, "c"), LimitStep(2.4, "b"))
    said = describe_changes(candidates, Policy(), 0.0, "b")
    assert said == [f"{what} would go to production." for what in ("With a p99 budget of 1 or 2 ms, c", "Without b, a")]


def test_a_clear_choice_is_repeated_and_a_tie_is_not():
    times = [np.full((20, 8), 10.0), np.full((20, 8), 2.0)]
    clear = [metrics("a", range(10), 10), metrics("b", range(200), 2)]
    assert bootstrap_choice(clear, times, Policy(), 0.0, redraws=50)[0] == {"a": 1.0}
    tie = [metrics("a", range(0, 100), 10), metrics("b", range(100, 200), 10)]
    parts, optimism = bootstrap_choice(tie, [times[0], times[0]], Policy(), 0.0, redraws=100)
    assert 0.2 < parts["a"] < 0.8
    assert optimism > 0, "the winner of a tie is flattered"
    assert apply_rule(tie, Policy()).chosen is not None


def test_the_correction_covers_the_flattery_of_choosing_among_equals():
    """Simulation: ten candidates of true accuracy 80%; the best looks better, the corrected one is nearer the truth."""
    rng = np.random.default_rng(0)
    raw, corrected = [], []
    for seed in range(8):
        candidates = [metrics(f"c{i}", np.flatnonzero(rng.random(300) < 0.2), 1.0, n=300) for i in range(10)]
        _, optimism = bootstrap_choice(candidates, [np.ones((4, 8))] * 10, Policy(), 0.0, redraws=40, seed=seed)
        best = max(e.metric("accuracy") for e in candidates)
        raw.append(best)
        corrected.append(best - optimism)
    assert np.mean(raw) > 0.82
    assert abs(np.mean(corrected) - 0.8) < abs(np.mean(raw) - 0.8)


def test_a_smaller_profile_says_what_it_cuts():
    assert Profile().describe_cuts() == PROFILES["long"].describe_cuts() == ()
    assert list(PROFILES["quick"].describe_cuts()) == [
        "1 cold start of each candidate instead of 3",
        "no paced run",
        "no robustness",
        "no labeled frames",
        "no other input sizes",
    ]
    assert len(PROFILES["demo"].describe_cuts()) == 5
