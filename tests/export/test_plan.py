"""A plan names what an export would make and how long it took, and makes nothing."""

from __future__ import annotations

import json

import pytest

from export.commands import bundle, plan
from inference.backends import trt
from inference.errors import InputError
from inference.passport import load
from tests.export import runs


def files_of(path):
    return {file: file.stat().st_mtime_ns for file in path.rglob("*")}


def test_what_was_made_says_how_long_it_took(exported, capsys):
    before = files_of(exported)
    assert plan.main([str(exported), "--engines", "tensorrt_rtx", "--json"]) == 0
    items = json.loads(capsys.readouterr().out)
    assert [item["what"].split()[0] for item in items] == ["bundle", "engine", "engine", "engine"]
    engine = exported / runs.ARCH / "bundle" / "engines" / "int8.tensorrt_rtx.sm86.engine"
    assert items[3]["last_seconds"] == load(engine, "").build_seconds
    assert items[0]["last_seconds"] > 0
    assert files_of(exported) == before


def test_what_was_never_made_says_so(run_path, capsys):
    asked = [str(run_path), "--precisions", "fp32", "--engines", "tensorrt_rtx", "--sm", "75", "120", "--size", "48"]
    assert bundle.main([*asked, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert out.count("never made") == 3
    assert "bundle_48" in out
    assert "sm75" in out
    assert "sm120" in out
    assert not list(run_path.glob("*/bundle*"))


def test_openvino_needs_no_engine(run_path, capsys):
    assert plan.main([str(run_path), "--engines", "openvino", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 1


def test_a_batch_that_is_none_is_refused(run_path):
    with pytest.raises(InputError, match="batches"):
        plan.main([str(run_path), "--batch", "0"])
    assert trt.Options((1, 3)).batches == (1, 3)
