"""The engine that is timed is the engine that ships: built before, proved on the device, alone in production."""

from __future__ import annotations

import shutil

import pytest

from benchmarks.choose.production import write_production
from benchmarks.commands import measure
from benchmarks.measure import engines, measured_set
from benchmarks.measure.candidates import list_candidates, open_bundles
from benchmarks.measure.engines import build_engines
from benchmarks.measure.robustness.file_robustness import BATCH
from benchmarks.report.results_file import read_reports
from core.bundle.contract import open_bundle
from core.bundle.engine_manifest import load_manifest
from core.bundle.production_choice import ProductionChoice, this_machine
from core.data.run_dir import open_run
from core.errors import CheckError
from core.files import read_json, write_json
from inference.backends import open_backend, trt
from inference.proof import golden_run
from tests.benchmarks.conftest import BUSY, CHEAP, engines_in, why_not
from tests.export import fake_trt


def test_after_a_whole_benchmark_production_holds_what_was_timed(small_run, runtime, monkeypatch):
    timed, take_turns = [], measured_set.take_turns

    def watch(*arguments, **options):
        timed.append(engines_in(small_run / "tiny_a" / "bundle"))
        return take_turns(*arguments, **options)

    monkeypatch.setattr(measured_set, "take_turns", watch)
    assert measure.main([str(small_run), *CHEAP]) == 0
    assert engines_in(small_run / "production") == timed[0]
    assert engines_in(small_run / "tiny_a" / "bundle") == timed[0]
    assert runtime.builds == ["1,4,16"], "it was built once, before anything was measured"
    assert {1, 16} <= set(runtime.ran), "latency ran one region, robustness sixteen, on the same file"
    shipped = load_manifest(next((small_run / "production" / "engines").glob("*.engine")), "")
    assert (shipped.state, shipped.proved_on["name"], shipped.proved_on["version"]) == ("proved", "Fake Orin", "10.3.0")


def test_an_engine_that_is_wrong_at_one_batch_size_alone_is_not_chosen(small_run, runtime, monkeypatch):
    """Each batch size has kernels of its own: sixteen regions are wrong here, one and four are right."""
    compute = fake_trt.Context.compute

    def fail_at_sixteen(context):
        runtime.drift = 0.2 if context.batch == 16 else 0.0
        compute(context)

    monkeypatch.setattr(fake_trt.Context, "compute", fail_at_sixteen)
    with pytest.raises(CheckError, match="no candidate can go to production"):
        measure.main([str(small_run), *CHEAP])
    assert why_not(small_run).startswith("its golden frames fail on this device: max |dprob|, batch 16 is 0.2")
    assert load_manifest(next((small_run / "tiny_a" / "bundle" / "engines").glob("*.engine")), "").state == "built"


def test_a_proof_that_cannot_be_written_is_no_proof(small_run, runtime, monkeypatch, capsys):
    def read_only(*_):
        raise OSError(30, "Read-only file system")

    bundle = open_bundle(small_run / "tiny_a" / "bundle")
    trt.build(bundle, "fp32")
    monkeypatch.setattr("core.bundle.engine_manifest.write_json", read_only)
    with pytest.raises(CheckError, match=r"none is selectable .*: it is not proved on this device"):
        measure.main([str(small_run), *CHEAP])
    assert why_not(small_run) == "it is not proved on this device: the proof cannot be written beside its engine"
    assert "engines cannot be written (Read-only file system)" in capsys.readouterr().err


def test_an_engine_that_cannot_be_built_is_listed_with_its_reason(small_run, runtime, monkeypatch):
    monkeypatch.setattr(fake_trt.Builder, "build_serialized_network", lambda *_: None)
    assert measure.main([str(small_run), *BUSY, "--backends", "ort", "trt", "--demo"]) == 0
    rows = read_reports(small_run / "report" / "results.json")[0].results.unmeasured
    assert [(r.arch, r.precision, r.backend) for r in rows if "cannot build" in r.reason] == [("tiny_a", "fp32", "trt")]


def test_engines_of_other_seeds_are_built_before_anything_is_measured(small_run, runtime, monkeypatch):
    other = shutil.copytree(small_run, small_run.parent / "other")
    for folder, seed in ((small_run, 0), (other, 1)):
        write_json(folder / "run.json", {**read_json(folder / "run.json"), "seed": seed})
    built = []
    monkeypatch.setattr(measured_set, "take_turns", lambda *a, **o: (built.extend(runtime.builds), stop())[1])
    with pytest.raises(KeyboardInterrupt):
        measure.main([str(small_run), *CHEAP])
    assert len(built) == 2
    assert engines_in(other / "tiny_a" / "bundle")


def stop():
    raise KeyboardInterrupt


def test_an_engine_that_fits_is_not_built_again_and_batches_add_up(small_run, runtime):
    bundle = open_bundle(small_run / "tiny_a" / "bundle")
    trt.build(bundle, "fp32", options=trt.BuildOptions((1, 3)))
    for _ in range(2):
        assert build_engines(list_candidates({"tiny_a": bundle}, ["trt", "ort"]), 3) == []
    assert runtime.builds == ["1,3", "1,3,4,16"]
    assert set(engines_in(bundle.path)) == {"fp32.tensorrt.sm87.b1-3-4-16.engine"}


def test_production_takes_no_engine_that_is_not_proved(small_run, runtime):
    bundle = open_bundle(small_run / "tiny_a" / "bundle")
    candidate = list_candidates({"tiny_a": bundle}, ["trt"])[0]
    engine, choice = trt.build(bundle, "fp32"), ProductionChoice("fp32", "trt", 1, this_machine())
    with pytest.raises(CheckError, match="is not proved: run `python -m inference verify"):
        write_production(small_run / "production", candidate.bundle, choice, engine.name, {})
    assert not [path for path in small_run.iterdir() if "production" in path.name]


def test_golden_frames_fill_a_batch_exactly(small_run, runtime):
    bundle = open_bundle(small_run / "tiny_a" / "bundle")
    trt.build(bundle, "fp32")
    backend = open_backend("trt", bundle, "fp32")
    for size in backend.batch_sizes:
        runtime.ran.clear()
        assert all(row.passed for row in golden_run.check_golden(bundle, "trt", backend, "fp32", batch=size))
        assert set(runtime.ran) == {size}
    backend.close()


def test_more_regions_than_the_largest_batch_get_a_batch_size_of_their_own(small_run, monkeypatch):
    batches = []
    monkeypatch.setattr(engines, "build_missing", lambda *arguments: batches.append(arguments[-1]))
    for regions in (3, BATCH, BATCH + 1):
        build_engines(list_candidates(open_bundles(open_run(small_run)), ["ort"]), regions)
    assert batches == [(1, BATCH), (1, BATCH), (1, BATCH, BATCH + 1)]
