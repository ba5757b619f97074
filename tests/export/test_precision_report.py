"""The ladder says of every precision that it passed or why not; eight networks climb it whole (`make prove`)."""

from __future__ import annotations

import json
import os
import platform
from datetime import datetime, timezone
from pathlib import Path

import pytest

from core.data.pack import open_pack
from export.commands import bundle as command
from export.precision_report import as_markdown
from inference.backends.trt import PRECISIONS
from tests.export import runs

ROOT = Path(__file__).parents[2]
NETWORKS = {
    "timm/mobilenetv4_conv_small": 60,
    "timm/efficientnet_lite0": 60,
    "timm/repvgg_a0": 60,
    "timm/convnext_atto": 80,
    "timm/fastvit_t8": 60,
    "mobilenet_inspired": 100,
    "squeezenet_inspired": 300,
    "resnet_inspired": 60,
}
"""Architectures, and the steps of training that take them off chance."""


def result_of(**changes):
    loss = {"value": 0.02, "low_95": 0.0, "high_95": 0.04}
    parity = {"name": "int8", "split": "val", "max_dprob": None, "p99_dprob": 0.1, "mean_dprob": 0.01,
            "top1_agreement": 0.9, "accuracy": 0.8, "accuracy_loss": loss}  # fmt: skip
    failed = {"name": "int8: accuracy loss", "value": 0.02, "limit": 0.01, "passed": False}
    searched = {"passed": False, "checks": [failed], "kept_float": [], "search": [{"tried": "minmax"}, {"tried": "x"}]}
    gates = {"fp32": {"passed": True, "checks": []}, "int8": searched}
    engine = {"precision": "fp32", "runtime": "tensorrt_rtx", "target": "sm75", "state": "not built", "reason": "a|b"}
    return {
        "arch": "tiny",
        "bundle": "b",
        "failed": [],
        "gates": gates,
        "parity": [parity],
        "engines": [engine],
    } | changes


def test_what_was_refused_is_told_with_its_reason():
    told = as_markdown([result_of(), result_of(arch="bad", bundle=None, failed=["fp32 is not the network"])])
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in told.splitlines()]
    assert ["tiny", "fp32", "passed"] in rows
    assert ["tiny", "int8", "refused: int8: accuracy loss is 0.02, the limit is 0.01; tried minmax; x"] in rows
    assert ["tiny", "bundle", "b"] in rows
    assert ["bad", "all", "refused: fp32 is not the network"] in rows
    assert ["tiny", "fp32", "tensorrt_rtx", "sm75", "not built", "a/b"] in rows
    assert len({len(line) for line in told.split("\n\n")[0].splitlines()}) == 1, "the columns are aligned"
    assert "+2.00 [+0.00, +4.00]" in told


def test_what_an_int8_file_is_made_of_is_told():
    gates = {"int8": {"passed": True, "checks": [], "method": "entropy", "kept_float": ["Conv_3"], "equalised": ["a"]}}
    told = as_markdown([result_of(gates=gates)])
    assert "passed; ranges by entropy; 1 layers equalized; 1 given back to float (Conv_3)" in told


def test_a_file_that_is_not_a_number_is_printed():
    assert "nan" in as_markdown([result_of()])


@pytest.mark.prove
@pytest.mark.parametrize("arch", NETWORKS)
def test_every_precision_passes_or_is_refused_with_a_reason(arch, tmp_path, capsys):
    """On coloured noise, or on photographs: PACK=runs/NAME/pack. Engines for SM86."""
    path = Path(os.environ.get("PACK") or tmp_path / "pack").resolve()
    if not path.is_dir():
        runs.write_small_pack(path, rows=480)
    run = tmp_path / "runs" / "ladder"
    runs.write_run(run, path, [runs.train(path, arch, NETWORKS[arch])])
    code = command.main([str(run), "--sm", "86", "--table", str(tmp_path / "table.md"), "--json"])
    (result,) = json.loads(capsys.readouterr().out)
    assert code == (1 if result["failed"] else 0)
    assert result["bundle"], result["failed"]
    for precision, gates in result["gates"].items():
        assert gates["passed"] or any(precision in sentence for sentence in result["failed"])
    able = [p for p, gates in result["gates"].items() if gates["passed"] and p in PRECISIONS]
    assert [row["precision"] for row in result["engines"]] == able
    assert all(row["state"] == "built" or row["reason"] for row in result["engines"])
    pack, now = open_pack(path), datetime.now(timezone.utc)
    data = os.environ.get("PACK") or "coloured noise"
    facts = f"{NETWORKS[arch]} steps, {pack.geometry.size_px} px, {len(pack.rows('val'))} rows of val of {data}"
    head = f"# {arch}\n\n{now:%Y-%m-%d %H:%M} UTC, {platform.platform()}: {facts}\n\n"
    folder = ROOT / "docs" / "results"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{now:%Y-%m-%d}-ladder.md").open("a", encoding="utf-8") as page:
        page.write(head + (tmp_path / "table.md").read_text(encoding="utf-8") + "\n")
