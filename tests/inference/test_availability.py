"""A backend that cannot run here is listed with its reason and a hint, and stops no other one: with fake devices."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import pytest

from benchmarks.measure.candidates import available_backends, list_unmeasured
from core.bundle.engine_manifest import load_manifest
from core.bundle.production_choice import ProductionChoice, this_machine
from core.cli import run_command
from core.errors import CheckError, DeviceError, InputError
from inference import backends
from inference.backends import UnavailableError, open_backend, ort, trt
from inference.commands import doctor
from inference.commands import verify as command
from inference.commands.run import main, read_arguments, run_from_args
from inference.proof import verify
from inference.runner.selection import pick_backend_and_precision
from tests.bundles import make_bundle
from tests.export import fake_trt

FULL, RTX = "tensorrt", "tensorrt_rtx"


@pytest.fixture
def bundle(tmp_path):
    return make_bundle(tmp_path / "bundle", precisions=("fp32",))


@pytest.fixture
def put(monkeypatch):
    """Put both runtimes and a device here; TensorRT serves SM75 and later, TensorRT-RTX here 75, 86 and 87."""
    return lambda sm: fake_trt.put_here(
        monkeypatch, fake_trt.make("11.0.0"), fake_trt.make("1.7.1", RTX, compiles_late=True), sm=sm
    )


@pytest.fixture
def hopper(monkeypatch):
    """TensorRT-RTX alone, on an H200: it has no kernels for SM90."""
    fake_trt.put_here(monkeypatch, fake_trt.make("1.7.1", RTX, compiles_late=True), sm=90)


@pytest.mark.parametrize(
    ("sm", "available", "said"),
    [(61, False, ""), (90, True, "tensorrt 11.0.0"), (87, True, "tensorrt 11.0.0, tensorrt_rtx 1.7.1")],
)
def test_a_device_that_none_one_or_all_runtimes_serve(put, sm, available, said):
    put(sm)
    found = backends.availability("trt")
    assert found.available == available
    assert found.version == said or "has no kernels for sm61 (Fake Orin)" in found.reason
    row = next(row for row in doctor.examine() if row["part"] == "backend trt")
    assert (row["available"], bool(row["hint"])) == (available, not available)


def test_volta_is_served_until_tensorrt_10_4(monkeypatch):
    for version, available in (("10.3.0", True), ("10.4.0", True), ("10.5.0", False), ("11.0.0", False)):
        fake_trt.put_here(monkeypatch, fake_trt.make(version), sm=70)
        assert backends.availability("trt").available == available


def test_verify_lists_the_runtime_that_does_not_serve_the_card_and_goes_on(bundle, hopper, capsys):
    assert command.main([str(bundle.path), "--json"]) == 0
    lines = json.loads(capsys.readouterr().out)
    line = next(line for line in lines if line["what"] == "trt")
    assert line["result"] == "unavailable"
    assert "tensorrt_rtx 1.7.1 has no kernels for sm90 (Fake Orin): python -m inference run" in line["detail"]
    assert any(line["what"].startswith("ort fp32") and line["result"] == "passed" for line in lines)


def test_the_benchmark_lists_it_and_goes_on_with_those_that_run(bundle, hopper, capsys):
    able = available_backends(None)
    assert "ort" in able
    assert "trt" not in able
    assert "trt is not available (tensorrt_rtx 1.7.1 has no kernels for sm90" in capsys.readouterr().err
    assert available_backends(["trt", "ort"]) == ["ort"]
    row = next(row for row in list_unmeasured({"tiny": bundle}, able) if row.backend == "trt")
    assert "has no kernels for sm90 (Fake Orin): python -m" in row.reason
    with pytest.raises(InputError, match="no backend can run here; trt is not available"):
        available_backends(["trt"])


@pytest.mark.parametrize(("asked", "taken"), [(None, "ort"), ("fp32", "ort")])
def test_run_without_a_backend_takes_the_next_when_the_chosen_one_is_not_here(bundle, hopper, capsys, asked, taken):
    chosen = replace(bundle, choice=ProductionChoice("fp32", "trt", 1, this_machine()))
    assert pick_backend_and_precision(chosen, None, asked) == (taken, "fp32")
    assert "the backend trt is not available (tensorrt_rtx 1.7.1 has no kernels for sm90" in capsys.readouterr().err
    assert pick_backend_and_precision(chosen, "trt", None) == ("trt", "fp32"), "who names one gets that one"
    with pytest.raises(UnavailableError, match="no kernels for sm90"):
        open_backend("trt", chosen, "fp32")


def test_run_goes_on_where_not_even_ort_is_here(bundle, monkeypatch, tmp_path, capsys):
    missing = backends.Availability(False, "", "onnxruntime is not installed", "pip")
    monkeypatch.setattr(ort, "availability", lambda: missing)
    arguments = [str(bundle.path), "--source", "synthetic://?frames=2", "--out", str(tmp_path / "out"), "--no-overlay"]
    assert run_from_args(read_arguments(arguments))["backend"]["backend"] == "openvino"
    assert "the backend ort is not available (onnxruntime is not installed)" in capsys.readouterr().err


def test_a_runtime_or_a_driver_that_does_not_load_is_a_reason(monkeypatch, bundle):
    def broken(error):
        def availability():
            raise error

        return availability

    for module, error in ((trt, DeviceError("CUDA's cudaGetDeviceProperties failed")), (ort, OSError("libx.so: no"))):
        monkeypatch.setattr(module, "availability", broken(error))
    rows = {row["part"]: row for row in doctor.examine()}
    assert rows["backend trt"]["found"].endswith("it does not load: CUDA's cudaGetDeviceProperties failed")
    assert rows["backend ort"] == {
        "part": "backend ort", "available": False, "found": "it does not load: libx.so: no", "hint": "pip check"
    }  # fmt: skip
    assert {line.what: line.result for line in verify.verify(bundle)}["ort"] == "unavailable"


def test_opening_builds_nothing_and_writes_nothing(bundle, put):
    module = put(87)
    with pytest.raises(UnavailableError, match="holds no engine of fp32 for Fake Orin: build it: python -m"):
        open_backend("trt", bundle, "fp32")
    assert not (bundle.path / "engines").exists()
    engine = trt.build(bundle, "fp32", options=trt.BuildOptions((1, 4)))
    before = {file: file.read_bytes() for file in bundle.path.rglob("*") if file.is_file()}
    with open_backend("trt", bundle, "fp32", batch=3) as backend:
        backend.infer(3)
    with pytest.raises(UnavailableError, match=r"holds 4 regions at most, 7 .* --sm 87 --backend-option batches=1,4,7"):
        open_backend("trt", bundle, "fp32", batch=7)
    module.__version__ = "11.1.0"
    with pytest.raises(UnavailableError, match=r"its runtime version is 11\.0\.0, here it is 11\.1\.0; build it"):
        open_backend("trt", bundle, "fp32")
    assert {file: file.read_bytes() for file in bundle.path.rglob("*") if file.is_file()} == before
    assert (engine.name, module.builds) == ("fp32.tensorrt.sm87.b1-4.engine", ["1,4"])


def test_verify_says_of_an_engine_that_is_missing_how_it_is_built_and_passes(bundle, put, capsys):
    put(87)
    assert command.main([str(bundle.path)]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("trt fp32"))
    assert "unavailable" in line
    assert "python -m inference build" in line


def test_verify_fails_where_a_named_backend_or_no_backend_at_all_proves_anything(bundle, monkeypatch):
    with pytest.raises(CheckError, match="no golden frame ran on trt, so nothing is proved there"):
        command.main([str(bundle.path), "--backends", "ort", "trt"])
    assert command.main([str(bundle.path), "--backends", "ort"]) == 0
    monkeypatch.setattr(verify, "names", lambda: ["null", "trt"])
    with pytest.raises(CheckError, match="no golden frame ran on any backend of this machine"):
        command.main([str(bundle.path)])


def test_verify_proves_the_engine_on_this_device_and_each_other_device_anew(bundle, put):
    put(87)
    engine = trt.build(bundle, "fp32")
    assert load_manifest(engine, "").state == "built"
    lines = verify.verify(bundle)
    assert "proved on Fake Orin, tensorrt 11.0.0 for sm87" in {line.detail for line in lines}
    known = load_manifest(engine, "").proved_on
    assert (known["name"], known["sm"], known["cuda"], known["version"]) == ("Fake Orin", 87, "runtime 12.6", "11.0.0")
    verify.verify(bundle)
    assert load_manifest(engine, "").proved_on == known, "the proof holds and keeps its date"
    with open_backend("trt", bundle, "fp32") as backend:
        assert backend.proved


@pytest.mark.parametrize("changed", ["name", "sm", "cuda", "version"])
def test_a_proof_of_another_device_driver_or_runtime_is_none_here(bundle, put, changed):
    put(87)
    engine = trt.build(bundle, "fp32")
    verify.verify(bundle)
    known = load_manifest(engine, "")
    known.proved({**known.proved_on, changed: "another"}).save(engine.parent)
    with open_backend("trt", bundle, "fp32") as backend:
        assert not backend.proved


def test_an_engine_whose_golden_frames_fail_stays_unproved(bundle, put):
    module = put(87)
    engine = trt.build(bundle, "fp32")
    module.drift = 0.1
    lines = [line for line in verify.verify(bundle) if line.result == "failed"]
    assert [line.what for line in lines] == [f"trt fp32: max |dprob|, batch {n}" for n in (1, 4, 16)]
    assert load_manifest(engine, "").state == "built"


def test_doctor_lists_a_backend_whose_file_does_not_load_and_the_others(tmp_path, monkeypatch):
    (tmp_path / "broken.py").write_text("def (")
    monkeypatch.setattr(backends, "__path__", [*backends.__path__, str(tmp_path)])
    rows = {row["part"]: row for row in doctor.examine()}
    assert "does not load (SyntaxError" in rows["backend broken"]["found"]
    assert rows["backend ort"]["available"]


@pytest.fixture(params=["def (", "raise RuntimeError('no card')", "import nothing_there", "PRECISIONS = ()"])
def broken(request, tmp_path, monkeypatch):
    """A backend whose file does not load, or has none of a backend's parts."""
    (tmp_path / "plug_ins").mkdir()
    (tmp_path / "plug_ins" / "broken.py").write_text(request.param)
    monkeypatch.setattr(backends, "__path__", [*backends.__path__, str(tmp_path / "plug_ins")])
    yield
    sys.modules.pop("inference.backends.broken", None)


def test_a_broken_plug_in_is_one_line_of_verify_and_stops_no_other(bundle, broken, capsys):
    assert command.main([str(bundle.path), "--json", "--backend-option", "threads=1"]) == 0
    lines = json.loads(capsys.readouterr().out)
    (line,) = (line for line in lines if line["what"].startswith("broken"))
    assert (line["result"], "broken" in line["detail"] or "nothing_there" in line["detail"]) == ("unavailable", True)
    assert any(line["what"].startswith("ort fp32") and line["result"] == "passed" for line in lines)


def test_a_broken_plug_in_is_one_line_of_the_help_and_stops_no_run(bundle, broken, capsys):
    assert [line for line in backends.option_help().splitlines() if "broken" in line.split()[0]]
    with pytest.raises(SystemExit):
        read_arguments(["--help"])
    assert "ort threads=" in capsys.readouterr().out
    assert pick_backend_and_precision(bundle, None, None) == ("ort", "fp32")
    with pytest.raises(InputError, match="choose from openvino, ort"):
        backends.open_network("null", bundle.path)


def test_a_broken_plug_in_that_is_asked_for_is_one_sentence(bundle, broken, capsys):
    asked = [str(bundle.path), "--source", "synthetic://?frames=1", "--backend", "broken"]
    assert run_command(lambda: main(asked)) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert "broken" in said or "nothing_there" in said
