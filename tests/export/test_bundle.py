"""`python -m export` leaves a verified bundle, or none, or one without the precision that failed."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from core.bundle import golden_file
from core.bundle.contract import open_bundle
from core.bundle.engine_manifest import load_manifest
from core.bundle.parity_file import read_parity
from core.errors import InputError
from export import seal
from export.commands import bundle as command
from export.precision import int8
from export.quantize import search
from inference.backends import open_backend
from inference.proof import golden_run
from tests.export import runs


def test_the_bundle_holds_what_the_design_says(exported):
    folder = exported / runs.ARCH / "bundle"
    bundle = open_bundle(folder)
    assert set(bundle.files) == {
        "golden.npz", "model.fp16.onnx", "model.fp32.onnx", "model.int8.onnx", "model.int8.ort.onnx", "parity.json"
    }  # fmt: skip
    assert bundle.precisions == ("fp32", "fp16", "int8")
    assert bundle.selectable
    results = read_parity(folder)
    assert {(result.name, result.split) for result in results} == {
        *((name, split) for name in ("fp32", "fp16", "int8", "int8 ort") for split in ("val", "test")),
        ("fp32 openvino", "val"),
        ("int8 openvino", "val"),
    }


def test_every_gate_names_its_checks(exported):
    gates = open_bundle(exported / runs.ARCH / "bundle").gates
    names = {precision: [check["name"] for check in gate["checks"]] for precision, gate in gates.items()}
    assert names["fp32"][:1] == ["fp32: max |dprob|"]
    assert names["fp16"][:2] == ["fp16: accuracy loss", "fp16: p99 |dprob|"]
    assert "int8 openvino: accuracy loss" in names["int8"]
    assert "int8 ort: golden frames, flips of a clear top-1" in names["int8"]
    loss = next(check for check in gates["int8"]["checks"] if check["name"] == "int8 ort: accuracy loss")
    assert loss["low_95"] <= loss["value"] <= loss["high_95"]
    assert gates["int8"]["float_layers"] == {}
    assert gates["int8"]["search"][-1]["outcome"] == "passed"


def test_engines_of_both_precisions_are_built_with_passports(exported):
    engines = exported / runs.ARCH / "bundle" / "engines"
    names = [f"{p}.tensorrt_rtx.sm86.b1-4-16.engine" for p in ("fp32", "fp16", "int8")]
    assert sorted(path.name for path in engines.iterdir()) == sorted([*names, *(f"{n}.json" for n in names)])
    for name in names:
        manifest = load_manifest(engines / name, "")
        assert (manifest.state, manifest.target, manifest.proved_on) == ("built", "sm86", None)
        assert manifest.engine_bytes == (engines / name).stat().st_size > 10_000
    assert load_manifest(engines / names[2], "").calibration is not None


@pytest.mark.parametrize(
    ("backend", "precision"),
    [("ort", "fp32"), ("ort", "fp16"), ("ort", "int8"), ("openvino", "fp32"), ("openvino", "int8")],
)
def test_golden_frames_pass_on_every_cpu_backend(exported, backend, precision):
    bundle = open_bundle(exported / runs.ARCH / "bundle")
    opened = open_backend(backend, bundle, precision, batch=2, threads=1)
    rows = golden_run.check_golden(bundle, backend, opened, precision)
    assert all(row.passed for row in rows), rows


@pytest.mark.parametrize(("backend", "file"), [("ort", "model.int8.ort.onnx"), ("openvino", "model.int8.ort.onnx")])
def test_a_cpu_opens_the_unsigned_form(exported, backend, file):
    opened = open_backend(backend, open_bundle(exported / runs.ARCH / "bundle"), "int8", threads=1)
    assert opened.describe()["file"] == file


def test_the_golden_file_is_small_and_reaches_over_the_edge(exported):
    path = exported / runs.ARCH / "bundle" / golden_file.NAME
    stored = golden_file.load_golden(path)
    assert path.stat().st_size < 200_000
    assert len({frame.shape for frame in stored.frames}) == 3
    assert (stored.rects_r4[:, :2] < 0).any()


def test_a_failed_int8_leaves_a_bundle_without_it(run_path, monkeypatch, capsys):
    real = int8.quantize
    monkeypatch.setattr(int8, "quantize", lambda model, plan, amax: real(model, plan, dict.fromkeys(amax, 1e-3)))
    monkeypatch.setattr(search._Quantizer, "fall_back_to_float", lambda self: None)
    assert command.main([str(run_path), "--precisions", "int8", "--engines"]) == 1
    bundle = open_bundle(run_path / runs.ARCH / "bundle")
    assert bundle.precisions == ("fp32",)
    assert not list(bundle.path.glob("model.int8*"))
    assert not bundle.gates["int8"]["passed"]
    assert "goes without int8" in capsys.readouterr().err


def test_a_precision_that_a_backend_gets_wrong_is_dropped(run_path, monkeypatch, capsys):
    """As OpenVINO did with the signed form: right in ONNX Runtime, wrong where it will be driven."""
    real = seal.predict_rows

    def wrong_in_int8(opened, builder, rows):
        probs = real(opened, builder, rows)
        return np.roll(probs, 1, axis=1) if opened.describe()["precision"] == "int8" else probs

    monkeypatch.setattr(seal, "predict_rows", wrong_in_int8)
    assert command.main([str(run_path), "--precisions", "int8", "--engines"]) == 1
    bundle = open_bundle(run_path / runs.ARCH / "bundle")
    assert bundle.precisions == ("fp32",)
    assert set(golden_file.load_golden(bundle.check_file(golden_file.NAME)).probs) == {"fp32"}
    assert not list(bundle.path.glob("model.int8*"))
    assert "goes without int8 (int8 openvino: " in capsys.readouterr().err


def test_a_failed_fp32_leaves_no_bundle(run_path, monkeypatch, capsys):
    from export import assemble

    real = assemble.to_onnx

    def wrong(network, size_px):
        network.temperature *= 1.1
        return real(network, size_px)

    monkeypatch.setattr(assemble, "to_onnx", wrong)
    assert command.main([str(run_path), "--engines"]) == 1
    assert not list((run_path / runs.ARCH).glob("*bundle*"))
    assert not list((run_path / runs.ARCH).glob(".*"))
    assert "fp32 is not the network that was trained" in capsys.readouterr().err


def test_a_checkpoint_of_another_class_count_is_refused(run_path, checkpoint):
    facts = replace(checkpoint.metadata, classes=("red", "green", "blue", "white"))
    weights = dict(checkpoint.weights)
    for name in [n for n, w in weights.items() if w.shape[:1] == (3,)]:
        weights[name] = torch.cat([weights[name], weights[name][:1]])
    replace(checkpoint, metadata=facts, weights=weights).save(run_path / runs.ARCH / "best.safetensors")
    with pytest.raises(InputError, match="its classes is"):
        command.main([str(run_path)])


@pytest.mark.parametrize(
    ("change", "what"),
    [({"pack_fingerprint": "other"}, "pack fingerprint"), ({"background": "red"}, "background class")],
)
def test_a_checkpoint_of_another_pack_is_refused(run_path, checkpoint, change, what):
    replace(checkpoint, metadata=replace(checkpoint.metadata, **change)).save(run_path / runs.ARCH / "best.safetensors")
    with pytest.raises(InputError, match=what):
        command.main([str(run_path)])


def test_another_size_is_for_latency_only_and_leaves_the_bundle_alone(run_path):
    assert command.main([str(run_path), "--size", "48", "--precisions", "int8", "--engines"]) == 0
    bundle = open_bundle(run_path / runs.ARCH / "bundle_48")
    assert not bundle.selectable
    assert bundle.geometry.size_px == 48
    assert not (run_path / runs.ARCH / "bundle").exists()


def test_a_precision_that_an_export_takes_away_is_named(exported, run_path, caplog):
    shutil.copytree(exported / runs.ARCH / "bundle", run_path / runs.ARCH / "bundle")
    for lines in (1, 0):  # again: nothing is left to be lost
        caplog.clear()
        assert command.main([str(run_path), "--precisions", "fp32", "--engines"]) == 0
        held = f"{runs.ARCH}: the bundle that was replaced held fp16, int8 too, which --precisions left out"
        assert caplog.messages.count(held) == lines
    assert open_bundle(run_path / runs.ARCH / "bundle").precisions == ("fp32",)


def test_a_run_without_checkpoints_is_refused(run_path):
    (run_path / runs.ARCH / "best.safetensors").unlink()
    with pytest.raises(InputError, match="train it first"):
        command.main([str(run_path)])


def test_exporting_again_gives_the_same_models(run_path, exported):
    assert command.main([str(run_path), "--engines"]) == 0
    first, second = (open_bundle(path / runs.ARCH / "bundle").files for path in (run_path, exported))
    for name in first:
        assert first[name] == second[name]


def test_int8_expectations_are_not_those_of_fp32(exported):
    stored = golden_file.load_golden(exported / runs.ARCH / "bundle" / golden_file.NAME)
    assert not np.array_equal(stored.probs["int8"], stored.probs["fp32"])


def test_the_unsigned_form_is_held_to_its_own_numbers(exported):
    bundle = open_bundle(exported / runs.ARCH / "bundle")
    stored = golden_file.load_golden(bundle.path / golden_file.NAME)
    assert not np.array_equal(stored.probs["int8"], stored.probs["int8.ort"])
    opened = open_backend("openvino", bundle, "int8", threads=1)
    worst = next(
        row.value for row in golden_run.check_golden(bundle, "openvino", opened, "int8") if row.check == "max |dprob|"
    )
    opened.close()
    assert worst < np.abs(stored.probs["int8"] - stored.probs["int8.ort"]).max()


def test_a_precision_that_cannot_be_made_is_refused_while_the_others_ship(run_path, monkeypatch, capsys):
    def fail(*values):
        raise TypeError("no byte form of Einsum")

    monkeypatch.setattr(int8, "quantize", fail)
    assert command.main([str(run_path), "--precisions", "fp32", "int8", "--engines"]) == 1
    bundle = open_bundle(run_path / runs.ARCH / "bundle")
    assert bundle.precisions == ("fp32",)
    assert not [file for file in bundle.files if "int8" in file]
    assert "goes without int8 (it cannot be made, TypeError: no byte form of Einsum)" in capsys.readouterr().err


def test_a_network_of_one_size_has_no_bundle_of_another(pack_path, tmp_path, capsys):
    runs.write_run(tmp_path / "run", pack_path, [runs.train(pack_path, "timm/vit_tiny_patch16_224", steps=0)])
    assert command.main([str(tmp_path / "run"), "--size", "48", "--engines"]) == 1
    assert "it takes images of 32 px only" in capsys.readouterr().err
