"""The whole benchmark on a tiny run: rows, report, production, and what is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.choose.policy import Policy
from benchmarks.choose.production import write_production
from benchmarks.commands import measure
from benchmarks.measure.accuracy import check_same_data, classify_rows, predict, score
from benchmarks.measure.candidates import list_candidates, list_unmeasured, open_bundles
from benchmarks.measure.measured_run import pick_fastest
from benchmarks.measure.profiles import Profile
from benchmarks.measure.speed import runner_subprocess
from benchmarks.report.results_file import read_reports
from benchmarks.results.candidate import NotMeasured
from core.bundle.contract import open_bundle
from core.bundle.production_choice import ProductionChoice, this_machine
from core.data.pack import open_pack
from core.data.run_dir import open_run
from core.errors import CheckError, InputError
from core.files import read_json, sha256_of_json, write_json
from inference.backends import open_backend
from inference.commands.run import read_arguments, run_from_args
from inference.frame.classifier import RegionClassifier
from tests.benchmarks.conftest import BUSY, result_of, results_of


@pytest.fixture
def pack(run_folder):
    return open_pack(run_folder / "pack")


@pytest.fixture
def classifier(run_folder):
    bundle = open_bundle(run_folder / "tiny_a" / "bundle")
    backend = open_backend("ort", bundle, "fp32", threads=1)
    yield RegionClassifier(bundle, backend)
    backend.close()


def test_the_backend_sees_the_bytes_of_the_packs_row(classifier, pack):
    seen = []
    infer = classifier.backend.infer
    classifier.backend.infer = lambda n: (seen.append(classifier.backend.input_nhwc[0].copy()), infer(n))[1]
    classify_rows(classifier, pack.images_nhwc[:5])
    np.testing.assert_array_equal(np.stack(seen), pack.images_nhwc[:5])


def test_bytes_that_differ_from_the_row_fail_the_check(classifier, pack):
    classifier.backend.infer = lambda n: (classifier.backend.input_nhwc.fill(7), np.full((n, 3), 1 / 3, np.float32))[1]
    with pytest.raises(CheckError, match="differ from the pack's row"):
        classify_rows(classifier, pack.images_nhwc[:5])


def test_accuracy_is_that_of_the_plain_count(classifier, pack):
    labels_n, probs_nc = pack.labels_n[pack.rows("test")], predict(classifier, pack)
    body = score(labels_n, probs_nc, pack.classes)
    labels, said = labels_n.tolist(), probs_nc.argmax(1).tolist()
    assert body.top1 == sum(a == b for a, b in zip(labels, said, strict=True)) / len(labels)
    assert len(labels) == len(pack.rows("test"))
    for i, name in enumerate(pack.classes):
        assert body.recalls[name].n == labels.count(i)
        assert body.recalls[name].recall == sum(a == b == i for a, b in zip(labels, said, strict=True)) / labels.count(
            i
        )
    assert 1 / 3 < body.top1 < 1, "the tiny pack must leave something to choose"


def test_another_pack_is_refused(run_folder, pack):
    bundle = replace(open_bundle(run_folder / "tiny_a" / "bundle"), classes=("clear", "a", "b"))
    with pytest.raises(InputError, match="differ in their classes"):
        check_same_data(pack, bundle)


def test_the_fastest_backend_answers_for_a_precision(small_run):
    slow = result_of("tiny_a", times_ms=np.full((4, 8), 2.0))
    fast, other = result_of("tiny_a", backend="openvino"), result_of("tiny_a", "int8")
    found = pick_fastest((slow, fast, other), open_bundles(open_run(small_run)))
    assert {row.name for row in found} == {fast.name, other.name}


def test_every_precision_and_backend_that_can_run_is_a_candidate(run_folder):
    bundles = open_bundles(open_run(run_folder))
    names = [c.name for c in list_candidates(bundles, ["ort"])]
    assert len(names) == len(set(names)) == 2 * 2
    assert "tiny_a int8 ort x1" in names


def test_an_engine_without_its_device_is_a_row_that_was_not_measured(run_folder):
    bundle = run_folder / "tiny_a" / "bundle"
    (bundle / "engines").mkdir()
    facts = {"runtime": "tensorrt_rtx", "version": "1.7", "precision": "int8", "target": "sm86", "state": "built"}
    write_json(bundle / "engines" / "int8.tensorrt_rtx.sm86.engine.json", facts)
    rows = list_unmeasured(open_bundles(open_run(run_folder)), ["ort"])
    assert [(r.arch, r.precision, r.reason.split(";")[0]) for r in rows if r.backend == "trt"] == [
        ("tiny_a", "int8", "its engine is built by tensorrt_rtx 1.7 for sm86")
    ]
    assert "trt" not in {row.backend for row in list_unmeasured(open_bundles(open_run(run_folder)), ["ort", "trt"])}


@pytest.fixture
def driven(monkeypatch):
    """The candidates that the car's own command ran at camera rate; it ran none."""
    driven = []
    monkeypatch.setattr(runner_subprocess, "measure_cold_start", lambda *_: 1.0)
    monkeypatch.setattr(
        runner_subprocess, "measure_ages", lambda candidate, *_: (driven.append(candidate.name), AGES)[1]
    )
    return driven


AGES = np.full(662, 40.0)
ASKED = ["--backends", "ort", "--threads", "1"]
PACED = Profile(paced_frames=662, corrupted_rows=(0, 0), other_size_samples=0)


def measure_tiny(run_folder, policy):
    request = replace(measure.request_of(measure.parse([str(run_folder), *ASKED])), profile=PACED)
    return measure.measure_and_choose(open_run(run_folder), request, policy)


def test_the_front_and_the_winner_are_driven_once_at_camera_rate(run_folder, driven):
    results, choice = measure_tiny(run_folder, Policy(p99_ms=None))
    assert sorted(driven) == sorted({*choice.front, choice.chosen})
    aged = {row.name for row in results.candidates if not isinstance(row.age_ms, NotMeasured)}
    assert aged == set(driven)
    assert results.by_name[choice.chosen].age_ms.p50 == 40.0


def test_a_winner_off_the_front_needs_its_ages_too():
    ages = result_of().latency.frame_ms
    rows = result_of("front"), result_of("winner"), result_of("other"), result_of("known", age_ms=ages)
    choice = SimpleNamespace(front=(rows[0].name, rows[3].name), chosen=rows[1].name, policy=Policy())
    assert measure.names_without_ages(results_of(*rows), choice) == {rows[0].name, rows[1].name}


def test_a_policy_that_asks_for_ages_gets_everyones(run_folder, driven):
    results, choice = measure_tiny(run_folder, Policy(p99_ms=None, age_ms=100))
    assert sorted(driven) == sorted(results.by_name)
    assert choice.chosen
    assert measure_tiny(run_folder, Policy(p99_ms=None, age_ms=30))[1].chosen is None


def test_a_winner_that_the_runner_refuses_at_camera_rate_is_replaced(run_folder, driven, monkeypatch):
    refused = []

    def refuse_the_first(candidate, *_):
        if not refused:
            refused.append(candidate.name)
            raise CheckError("does not run in the car's runner")
        return AGES

    monkeypatch.setattr(runner_subprocess, "measure_ages", refuse_the_first)
    results, choice = measure_tiny(run_folder, Policy(p99_ms=None, age_ms=100))
    assert results.by_name[refused[0]].why_not == "does not run in the car's runner"
    assert choice.chosen not in (None, refused[0])


def test_the_report_has_a_row_a_candidate_and_says_synthetic(measured_run):
    report = measured_run / "report"
    ((results, choice),) = [(device.results, device.choice) for device in read_reports(report / "results.json")]
    assert [row.name for row in results.candidates] == [
        f"{arch} {precision} ort x1" for arch in ("tiny_a", "tiny_b") for precision in ("fp32", "int8")
    ]
    for row in results.candidates:
        assert row.latency.frame_ms.n == row.latency.rounds_ms.size >= 662
        assert row.latency.frame_ms.p50 >= row.latency.engine_ms.p50 > 0
    assert (report / "pareto.png").stat().st_size > 5_000
    for page in ("report.html", "report.md"):
        text = (report / page).read_text()
        assert choice.sentence in text
        assert "ynthetic data" in text


def test_production_is_the_chosen_bundle_with_one_precision(measured_run):
    production = open_bundle(measured_run / "production")
    choice = read_json(measured_run / "production" / "choice.json")
    chosen = next(r["name"] for r in choice["candidates"] if r["role"] == "chosen")
    assert chosen == choice["chosen"]
    arch, precision, *_ = chosen.split()
    assert production.precisions == (precision,)
    assert production.choice == ProductionChoice(precision, "ort", 1, this_machine())
    assert production.contract_hash == open_bundle(measured_run / arch / "bundle").contract_hash
    assert {p.name for p in production.path.iterdir()} == {*production.files, "bundle.json"}
    for name in production.files:
        production.check_file(name)
    assert choice["synthetic"] is True
    assert all(r["why"] for r in choice["candidates"])
    backend = open_backend("ort", production, precision, threads=1)
    backend.close()


def drive_production(run, *arguments):
    return run_from_args(read_arguments([str(run / "production"), "--source", "synthetic://?frames=1", *arguments]))


def test_the_runner_takes_the_thread_count_that_the_benchmark_wrote(measured_run, monkeypatch):
    monkeypatch.setattr("inference.backends.ort.cores", lambda: 7)
    assert drive_production(measured_run)["backend"]["threads"] == 1
    assert drive_production(measured_run, "--threads", "3")["backend"]["threads"] == 3


def test_another_machine_or_backend_than_the_choice_was_measured_on_takes_all_cores(measured_run, monkeypatch):
    monkeypatch.setattr("inference.backends.openvino.cores", lambda: 5)
    assert drive_production(measured_run, "--backend", "openvino")["backend"]["threads"] == 5
    monkeypatch.setattr("inference.backends.ort.cores", lambda: 7)
    monkeypatch.setattr("core.bundle.production_choice.cpu_model", lambda: "another")
    assert drive_production(measured_run)["backend"]["threads"] == 7


def test_a_choice_of_an_older_version_is_refused_in_a_sentence(measured_run, tmp_path):
    shutil.copytree(measured_run / "production", tmp_path / "old")
    body = read_json(tmp_path / "old" / "bundle.json")
    del body["choice"]["machine"]
    body["digest"] = sha256_of_json({key: value for key, value in body.items() if key != "digest"})
    write_json(tmp_path / "old" / "bundle.json", body)
    with pytest.raises(InputError, match=r"bundle\.json: choice \(choose again .* lacks the key 'machine'"):
        open_bundle(tmp_path / "old")


def test_nothing_fits_is_exit_1_with_a_report_and_no_production(small_run):
    with pytest.raises(CheckError, match=r"no candidate can go to production.*over the budget of 0\.0001 ms"):
        measure.main([str(small_run), "--backends", "ort", "--quick", "--budget-ms", "0.0001"])
    assert not [p for p in small_run.iterdir() if "production" in p.name]
    assert read_reports(small_run / "report" / "results.json")[0].choice.chosen is None
    assert "no candidate can go to production" in (small_run / "report" / "report.html").read_text()


def test_a_damaged_model_never_reaches_production(run_folder):
    bundles = open_bundles(open_run(run_folder))
    candidate = list_candidates(bundles, ["ort"])[0]
    file = candidate.bundle.path / "model.fp32.onnx"
    damaged = bytearray(file.read_bytes())
    damaged[100] ^= 1
    file.write_bytes(damaged)
    choice = ProductionChoice("fp32", "ort", 1, this_machine())
    with pytest.raises(InputError, match="not the file that was proved"):
        write_production(run_folder / "production", candidate.bundle, choice, file.name, {})
    assert not [p for p in run_folder.iterdir() if "production" in p.name]


def test_json_prints_the_choice_on_stdout_alone(small_run, capsys):
    measure.main([str(small_run), "--backends", "ort", "--quick", "--json", *BUSY])
    printed = json.loads(capsys.readouterr().out)
    assert printed == read_json(small_run / "production" / "choice.json")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--backends", "nonsense"], "there is no backend 'nonsense'"),
        (["--budget-ms", "0"], "policy.p99_ms"),
        (["--threads", "0"], "threads is 0"),
        (["--pack", "nowhere"], "nowhere is not a pack"),
    ],
)
def test_a_wrong_command_is_one_sentence(run_folder, arguments, said):
    with pytest.raises(InputError, match=said):
        measure.main([str(run_folder), *arguments])


def test_a_run_without_bundles_says_what_to_do(run_folder):
    shutil.rmtree(run_folder / "tiny_a")
    shutil.rmtree(run_folder / "tiny_b")
    with pytest.raises(InputError, match="export it first"):
        measure.main([str(run_folder)])


@pytest.mark.parametrize(
    ("flag", "text", "reason"),
    [
        ("--ood", None, "holds no picture"),
        ("--frames-of", None, "pack.json does not exist"),
        ("--camera", '{"zones": {"ego": [0.3, 0.4, 1.7, 1]}}', r"zones\.ego is"),
    ],
)
def test_an_input_that_is_used_late_is_refused_before_anything_is_measured(
    flag, text, reason, small_run, tmp_path, monkeypatch
):
    given = tmp_path / "given"
    given.mkdir() if text is None else given.write_text(text)
    monkeypatch.setattr(
        "benchmarks.measure.measured_run.measure_side_by_side", lambda *_, **__: pytest.fail("it measured")
    )
    with pytest.raises(InputError, match=reason):
        measure.main([str(small_run), "--demo", flag, str(given)])
