"""`--dry-run` names what an export would make, and makes nothing."""

from __future__ import annotations

import json

import pytest

from core.errors import InputError
from export.commands import bundle
from inference import cuda_device
from inference.backends.trt.runtimes import RUNTIMES
from tests.export import fake_trt


def dry_run(run, *flags):
    return bundle.main([str(run), *flags, "--dry-run"])


def files_of(path):
    return {file: file.stat().st_mtime_ns for file in path.rglob("*")}


def test_the_bundle_and_its_engines_are_named_and_nothing_is_touched(exported, capsys):
    before = files_of(exported)
    assert dry_run(exported, "--engines", "tensorrt_rtx", "--json") == 0
    items = json.loads(capsys.readouterr().out)
    assert [item["what"].split()[0] for item in items] == ["bundle", "engine", "engine", "engine"]
    assert files_of(exported) == before


def test_every_target_and_another_size_are_named(run_path, capsys):
    asked = ["--precisions", "fp32", "--engines", "tensorrt_rtx", "--sm", "75", "120", "--size", "48"]
    assert dry_run(run_path, *asked) == 0
    out = capsys.readouterr().out
    assert "bundle_48" in out
    assert "sm75" in out
    assert "sm120" in out
    assert "nothing was made" in out
    assert not list(run_path.glob("*/bundle*"))


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_each_runtime_that_is_offered_has_engines(run_path, capsys, runtime):
    assert dry_run(run_path, "--engines", runtime, "--json") == 0
    assert [item["what"] for item in json.loads(capsys.readouterr().out) if runtime in item["what"]]


def test_without_a_device_no_engine_is_made_that_nobody_asked_for(run_path, capsys, caplog, monkeypatch):
    fake_trt.put_here(monkeypatch, fake_trt.make("1.7.1", "tensorrt_rtx"))
    monkeypatch.setattr(cuda_device, "unavailable_reason", lambda: "there is no CUDA device or no driver for it")
    assert dry_run(run_path) == 0
    assert "engine" not in capsys.readouterr().out
    assert "no engines: there is no CUDA device or no driver for it; --sm builds them" in caplog.text
    assert dry_run(run_path, "--sm", "86") == 0
    assert "engine fp32 tensorrt_rtx" in capsys.readouterr().out


@pytest.mark.parametrize(("runtime", "sm"), [("tensorrt", 87), ("tensorrt_rtx", 86)])
def test_with_a_device_the_engines_are_for_it(run_path, capsys, monkeypatch, runtime, sm):
    fake_trt.put_here(monkeypatch, fake_trt.make("10.3.0", runtime), sm=sm)
    assert dry_run(run_path, "--precisions", "fp32", "--json") == 0
    planned = [(item["what"], item["target"]) for item in json.loads(capsys.readouterr().out)]
    assert planned[1:] == [(f"engine fp32 {runtime}", "this machine's device")]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["--engines", "openvino"], "invalid choice: 'openvino'"),
        (["--sm", "86", "--engines"], "--sm names targets of tensorrt_rtx engines, and none is built"),
        (["--sm", "86", "--engines", "tensorrt"], "--sm names targets of tensorrt_rtx engines, and none is built"),
        (["--batch", "4", "--engines"], "--batch is for engines, and none is built"),
    ],
)
def test_an_option_that_would_build_nothing_is_refused(run_path, asked, said):
    with pytest.raises(InputError, match=said):
        dry_run(run_path, *asked)


def test_a_batch_that_is_none_is_refused(run_path):
    with pytest.raises(InputError, match="batches"):
        dry_run(run_path, "--batch", "0")


def test_a_target_that_no_engine_can_have_is_refused_before_anything_is_made(run_path, monkeypatch):
    monkeypatch.setattr(bundle, "_export", lambda *_: pytest.fail("it exported"))
    with pytest.raises(InputError, match="has no target sm90"):
        bundle.main([str(run_path), "--engines", "tensorrt_rtx", "--sm", "90"])
