"""The smoothing study: what counts as a false switch, as a time to decision; its curve (`make prove`)."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.bundle.contract import open_bundle
from inference.frame.smoothing import SmoothingConfig
from tests.bundles import make_bundle
from tests.inference.frame.smoothing_study import count_false_switches, study, times_to_decision

LABELS = st.sampled_from(["car", "truck", "clear"])


def test_only_a_change_to_what_is_not_there_is_false():
    truth = ["car"] * 6
    assert count_false_switches(truth, ["car", "truck", None, "truck", "car", "car"]) == 1
    assert count_false_switches(truth, ["truck", "car", "car", None, None, "car"]) == 0


def test_to_stay_with_what_was_there_is_late_not_false():
    assert count_false_switches(["car", "truck", "truck"], ["car", "car", "truck"]) == 0


def test_the_time_runs_from_the_change_of_the_truth_and_never_is_none():
    truth = ["clear"] * 2 + ["car"] * 20 + ["truck"] * 20
    said = ["clear"] * 5 + ["car"] * 37
    assert times_to_decision(truth, said, fps=10) == [300.0, None]


def test_what_is_there_too_short_is_not_asked_for():
    assert times_to_decision(["clear", "car", "clear", *["car"] * 9], ["clear"] * 12, fps=10) == [None]


@given(st.lists(st.tuples(LABELS, st.none() | LABELS), max_size=40))
def test_silence_and_truth_itself_are_never_false(pairs):
    truth = [fact for fact, _ in pairs]
    assert count_false_switches(truth, truth) == 0
    assert count_false_switches(truth, [None] * len(truth)) == 0
    assert count_false_switches(truth, [said for _, said in pairs]) <= len(pairs)


def test_every_setting_is_tried_and_table_and_plot_are_written(tmp_path, capsys):
    bundle = make_bundle(tmp_path / "bundle", precisions=("fp32",))
    study(bundle, 0.2, tmp_path, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 1000
    body = json.loads(next(tmp_path.glob("smoothing-*.json")).read_text())
    assert [row["smooth_ms"] for row in body["rows"]].count(SmoothingConfig.smooth_ms) >= 5
    assert all(row["frames"] == 4 * 6 * 3 for row in body["rows"])
    assert "**150**" in capsys.readouterr().out


@pytest.mark.prove
def test_the_curve_of_a_production_bundle():
    """Write the dated table and docs/smoothing.png from runs/NAME/production: RUN=NAME."""
    name = os.environ.get("RUN")
    if not name:
        pytest.skip("name a run with a production bundle: RUN=name")
    docs = Path(__file__).parents[3] / "docs"
    study(open_bundle(Path("runs") / name / "production"), 120.0, docs / "results", docs / "smoothing.png")
