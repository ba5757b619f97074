"""Labeled frames as a part of the whole benchmark: results, report, model card and choice."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from benchmarks.choose.candidate_metrics import metrics_of
from benchmarks.choose.choice import choose
from benchmarks.choose.policy import Policy
from benchmarks.choose.rule import reason_infeasible
from benchmarks.commands import measure
from benchmarks.measure.measured_run import measure_run
from benchmarks.measure.profiles import Profile
from benchmarks.report.results_file import read_reports
from benchmarks.results.candidate import NotMeasured
from core.data.pack import open_pack
from core.data.run_dir import open_run
from tests.benchmarks.conftest import BUSY, add_detector, make_run, result_of, results_of
from tests.benchmarks.measure.frames.test_frames import NOWHERE


def test_a_run_on_a_pack_with_frames_measures_them_once_for_each_precision_and_the_policy_can_ask(packed, tmp_path):
    run = make_run(tmp_path / "run", ("tiny_a",))
    policy = tmp_path / "policy.json"
    policy.write_text('{"frame_recall": 1.0}')
    arguments = [str(run), "--backends", "ort", "--quick", *BUSY, "--frames-of", str(packed), "--policy", str(policy)]
    assert measure.main(arguments) == 0
    (device,) = read_reports(run / "report" / "results.json")
    assert [row.frames.objects.recall for row in device.results.candidates] == [1.0, 1.0]
    assert "labeled frames of test, in the labeled boxes" in (run / "report" / "report.md").read_text()
    assert 'data-lines="0/frames"' in (run / "report" / "report.html").read_text()
    assert "at least 100%" in device.choice.rule
    metrics = {m.name: m for m in metrics_of(device.results)}
    assert {m.metric("frame_recall") for m in metrics.values()} == {1.0}
    assert {m.metric("false_alarms_per_100") for m in metrics.values()} == {None}, "on labeled boxes no region is empty"
    for row in device.results.candidates:
        compared = metrics[row.name].frames
        assert [len(compared["right_n"]), len(compared["quiet_n"])] == [row.frames.objects.n, row.frames.frames]
        assert compared["right_n"].all()
    assert "100.0% of 4 objects named rightly" in (run / "production" / "MODEL_CARD.md").read_text()
    for file in ("report/report.md", "report/report.html", "production/MODEL_CARD.md"):
        assert "not measured: no region was empty" in (run / file).read_text(), file


def test_the_quick_profile_measures_frames_that_are_named_as_many_as_the_full_one_and_says_so():
    profile = measure.request_of(measure.parse(["run", "--quick", "--frames-of", "pack"])).profile
    assert profile.labeled_frames == Profile().labeled_frames
    assert "no labeled frames" not in profile.describe_cuts()


def test_results_from_before_frames_took_part_are_read_and_chosen_from_as_then(packed, tmp_path):
    run = make_run(tmp_path / "run", ("tiny_a",), ("fp32",))
    assert measure.main([str(run), "--backends", "ort", "--quick", *BUSY, "--frames-of", str(packed)]) == 0
    file = run / "report" / "results.json"
    body = json.loads(file.read_text())
    (device,) = body["devices"]
    del device["results"]["protocol"]["regions"]
    for policy in ("frame_loss", "frame_recalls"):
        del device["choice"]["policy"][policy]
    for name in ("right_n", "quiet_n", "worst"):
        del device["results"]["candidates"][0]["frames"][name]
    file.write_text(json.dumps(body))
    (older,) = read_reports(file)
    assert metrics_of(older.results)[0].frames == {}
    assert choose(older.results, older.choice.policy).chosen == older.choice.chosen is not None


def test_a_run_with_a_detector_in_its_bundle_is_timed_and_scored_with_it(packed, tmp_path):
    run = make_run(tmp_path / "run", ("tiny_a",), ("fp32",))
    add_detector(run / "tiny_a" / "bundle", NOWHERE)
    assert measure.main([str(run), "--backends", "ort", "--quick", *BUSY, "--frames-of", str(packed)]) == 0
    results = read_reports(run / "report" / "results.json")[0].results
    assert results.protocol.source == "the golden frames of the detector"
    (found,) = [row.frames for row in results.candidates]
    assert found.regions == "the boxes of the detector in the bundle"
    page = (run / "report" / "report.html").read_text()
    assert page.count('<image href="data:image/jpeg;base64,') == len(found.worst) > 0
    assert f"The {len(found.worst)} frames with the most errors" in page
    assert page.count(", no region</text>") == sum(errors.count for errors in found.worst)


def own_frames(run: Path, packed: Path, root: Path) -> None:
    """Make the labeled frames of a pack those of the run's own pack, with the pictures in `root`."""
    file = run / "pack" / "pack.json"
    facts = json.loads((packed / "pack.json").read_text())
    (run / "pack" / "frames.jsonl").write_text((packed / "frames.jsonl").read_text())
    own = {"synthetic": False, "frames": facts["frames"], "options": facts["options"], "source": {"root": str(root)}}
    file.write_text(json.dumps(json.loads(file.read_text()) | own))


SHORT = Profile(cold_starts=1, paced_frames=0, corrupted_rows=(0, 0), other_size_samples=0)


def test_a_runs_own_frames_are_measured_unasked_and_where_they_are_gone_nothing_else_is_lost(packed, tmp_path):
    run = make_run(tmp_path / "run", ("tiny_a",), ("fp32",))
    root = Path(open_pack(packed).metadata["source"]["root"])
    request = replace(measure.request_of(measure.parse([str(run), "--backends", "ort", *BUSY])), profile=SHORT)
    for place, right in ((root, 1.0), (tmp_path / "gone", None)):
        own_frames(run, packed, place)
        (result,) = measure_run(open_run(run), request).candidates
        if right:
            assert result.frames.objects.recall == right
        else:
            assert "none of the 6 labeled frames of test can be read" in result.frames.not_measured


def test_frames_that_were_not_measured_do_not_meet_a_floor():
    metrics = metrics_of(results_of(result_of(accuracy=NotMeasured("not asked"))))
    assert "was not measured" in reason_infeasible(metrics[0], Policy(frame_recall=0.5))
    assert "was not measured" in reason_infeasible(metrics[0], Policy(false_alarms_per_100=5))
