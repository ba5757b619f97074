"""The engine of a detector in front is built, timed, proved and shipped as that of the classifier is."""

from __future__ import annotations

import pytest

from benchmarks.commands import measure
from benchmarks.measure import measured_set
from benchmarks.measure.candidates import list_candidates, open_bundles
from benchmarks.measure.engines import build_detector_engines
from benchmarks.report.results_file import read_reports
from core.bundle.contract import open_bundle
from core.bundle.engine_manifest import OF_DETECTOR, detector_engines, load_manifest
from core.data.run_dir import open_run
from core.errors import CheckError
from core.files import sha256_of_file
from core.geometry.camera_config import CameraConfig
from core.geometry.detector_config import DetectorFile
from inference.proof.verify import check_files_and_engines
from tests.benchmarks.conftest import CHEAP, add_detector, engines_in, make_run, why_not
from tests.export import fake_trt
from tests.inference.runner.test_region_choice import write_detector

CAR = (10, 10, 40, 40, 0.9, 0)
NAME = "detector.tensorrt.sm87.b1.engine"


@pytest.fixture
def run(tmp_path):
    """A run of two bundles with the same detector."""
    path = make_run(tmp_path / "runs" / "small", precisions=("fp32",))
    for arch in ("tiny_a", "tiny_b"):
        add_detector(path / arch / "bundle", CAR)
    return path


def test_production_holds_the_detectors_engine_that_was_timed(run, runtime, monkeypatch):
    timed, take_turns = {}, measured_set.take_turns

    def watch(processors, *arguments, **options):
        for processor in processors:
            engine = processor.region_source.detector._network._engine._path
            timed[engine] = sha256_of_file(engine)
        return take_turns(processors, *arguments, **options)

    monkeypatch.setattr(measured_set, "take_turns", watch)
    assert measure.main([str(run), *CHEAP]) == 0
    assert set(timed) == {run / arch / "bundle" / "engines" / NAME for arch in ("tiny_a", "tiny_b")}
    production = open_bundle(run / "production")
    assert engines_in(run / "production")[NAME] in timed.values()
    shipped = load_manifest(run / "production" / "engines" / NAME, "")
    assert (shipped.state, shipped.proved_on["name"]) == ("proved", "Fake Orin")
    check_files_and_engines(production)
    results = read_reports(run / "report" / "results.json")[0].results
    assert [(engine.precision, engine.measured) for engine in results.artifacts.engines] == [
        (OF_DETECTOR, True),
        ("fp32", True),
    ] * 2
    assert runtime.builds.count("") == 2, "each was built once, before anything was measured"


def test_a_detector_that_finds_other_boxes_on_the_device_is_not_chosen(run, runtime, monkeypatch):
    compute = fake_trt.Context.compute

    def move_boxes(context):
        compute(context)
        if "output0" in context.buffers:
            context.buffers["output0"][..., :4] += 5

    monkeypatch.setattr(fake_trt.Context, "compute", move_boxes)
    with pytest.raises(CheckError, match="no candidate can go to production"):
        measure.main([str(run), *CHEAP])
    assert why_not(run).startswith("its golden frames fail on this device: boxes without a match is 2")
    (engine,) = detector_engines(open_bundle(run / "tiny_a" / "bundle"))
    assert load_manifest(engine, "").state == "built"


def test_a_detector_without_an_engine_is_timed_on_the_cpu_and_it_is_said(run, runtime, monkeypatch, capsys):
    real = fake_trt.Builder.build_serialized_network
    monkeypatch.setattr(fake_trt.Builder, "build_serialized_network", lambda *a: real(*a) if a[2].profiles else None)
    assert measure.main([str(run), *CHEAP]) == 0
    said = capsys.readouterr().err
    assert "no engine of the detector, which runs on the CPU before trt: tensorrt 10.3.0 cannot build" in said
    rows = read_reports(run / "report" / "results.json")[0].results.candidates
    assert {row.backend for row in rows} == {"trt"}
    assert [row.opened["detector"] for row in rows] == [{"backend": "ort", "file": "detector.onnx"}] * 2
    assert NAME not in engines_in(run / "production")


def test_the_detector_of_a_camera_is_built_beside_its_own_file(run, runtime, tmp_path):
    write_detector(tmp_path / "d.onnx", CAR)
    (tmp_path / "camera.json").write_text('{"regions": {"detector": "d.onnx"}}')
    source = ["--source", "synthetic://?frames=4&width=320&height=180"]
    assert measure.main([str(run), *CHEAP, "--camera", str(tmp_path / "camera.json"), *source]) == 0
    assert list(engines_in(tmp_path)) == ["d.tensorrt.sm87.b1.engine"]


def test_a_detectors_engine_of_another_device_that_lacks_its_manifest_costs_no_production(run, runtime):
    """A build that is killed between the two files leaves such an engine."""
    for arch in ("tiny_a", "tiny_b"):
        engine = run / arch / "bundle" / "engines" / "detector.tensorrt.sm75.b1.engine"
        engine.parent.mkdir(exist_ok=True)
        engine.write_bytes(b"native code")
    assert measure.main([str(run), *CHEAP]) == 0
    assert engine.name not in engines_in(run / "production")
    assert NAME in engines_in(run / "production")


def test_a_folder_where_no_engine_can_be_written_leaves_the_detector_on_the_cpu(run, runtime, tmp_path, caplog):
    detector = DetectorFile(write_detector(tmp_path / "d.onnx", CAR))
    (tmp_path / "engines").touch()  # in place of a disk that is read-only, which root does not see
    build_detector_engines(list_candidates(open_bundles(open_run(run)), ["trt"]), CameraConfig(detector=detector))
    assert "no engine of the detector, which runs on the CPU before trt: " in caplog.text
    assert str(tmp_path / "engines") in caplog.text
