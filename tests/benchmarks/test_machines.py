"""The commands on machines whose device no runtime, one or all serve, by fakes: lists, reasons, hints, exit codes."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks.commands import measure
from benchmarks.measure.profiles import PROFILES
from benchmarks.measure.speed import runner_subprocess
from benchmarks.report.results_file import read_reports
from core.bundle.contract import open_bundle
from core.cli import dispatch
from inference import backends
from inference.backends import ort_cuda
from inference.commands import doctor
from inference.commands import verify as command
from tests.benchmarks.conftest import BUSY, SMALL
from tests.export import fake_trt
from tests.inference import fake_cuda, fake_ort_cuda

RTX = "tensorrt_rtx"


def put_machine(monkeypatch, kind):
    """Put a machine here whose device no runtime serves, CUDA's provider alone (an H200 with TensorRT-RTX), or all."""
    rtx = fake_trt.make("1.7.1", RTX, compiles_late=True)
    if kind == "all":
        fake_trt.put_here(monkeypatch, fake_trt.make("11.4.1"), rtx, sm=87)
    else:
        fake_trt.put_here(monkeypatch, rtx, sm=90)
    fake_ort_cuda.put_provider(monkeypatch, fake_cuda.Buffer.cuda)
    if kind == "none":
        monkeypatch.setattr(ort_cuda, "_load_libraries", lambda ort: "libcudnn.so.9: no such file")


NO_KERNELS = "tensorrt_rtx 1.7.1 has no kernels for sm90 (Fake Orin)"
NO_LIBRARY = "libcudnn.so.9: no such file"
MACHINES = [
    ("none", {"trt": NO_KERNELS, "ort_cuda": NO_LIBRARY}),
    ("one", {"trt": NO_KERNELS}),
    ("all", {}),
]
"""Machines, and the backends of a GPU that each lacks with the reason."""


@pytest.mark.parametrize(("kind", "lacking"), MACHINES)
def test_a_machine_lists_what_it_lacks_and_does_what_it_can(kind, lacking, small_run, monkeypatch, capsys, tmp_path):
    """The four commands, their reasons, hints and exit codes."""
    put_machine(monkeypatch, kind)
    # the car's own command runs in a process that has no fakes
    monkeypatch.setattr(runner_subprocess, "measure_cold_start", lambda *_: 1.0)
    monkeypatch.setattr(runner_subprocess, "measure_ages", lambda *_: np.ones(662))
    monkeypatch.setitem(PROFILES, "demo", SMALL)
    bundle = open_bundle(small_run / "tiny_a" / "bundle")
    able = {"ort", "openvino", "trt", "ort_cuda"} - set(lacking)

    doctor.main(["--json"])
    rows = {row["part"].removeprefix("backend "): row for row in json.loads(capsys.readouterr().out)}
    assert {name for name in able if rows[name]["available"]} == able
    for name, reason in lacking.items():
        assert reason in rows[name]["found"]
        assert rows[name]["hint"].split()[0] in {"pip", "python"}

    for name in able:
        backends.build_missing(name, bundle, "fp32", [1])
    assert command.main([str(bundle.path), "--json"]) == 0
    lines = json.loads(capsys.readouterr().out)
    assert {line["what"]: line["detail"] for line in lines if line["result"] == "unavailable"} == {
        name: f"{reason}: {rows[name]['hint']}" for name, reason in lacking.items()
    }
    proved = {line["what"].split()[0] for line in lines if line["result"] == "passed" and "|dprob|" in line["what"]}
    assert proved == able

    assert measure.main([str(small_run), *BUSY, "--demo"]) == 0
    results = read_reports(small_run / "report" / "results.json")[0].results
    assert {row.backend for row in results.candidates} == able
    assert {row.backend for row in results.unmeasured} == set(lacking)

    frames = ["--source", "synthetic://?frames=2", "--no-overlay"]
    for name in ("trt", "ort_cuda"):
        asked = [str(bundle.path), "--backend", name, *frames, "--out", str(tmp_path / name)]
        monkeypatch.setattr("sys.argv", ["inference", "run", *asked])
        assert dispatch("inference", "inference.commands") == (2 if name in lacking else 0)
        said = capsys.readouterr().err
        assert (f"error: the backend {name} is not available ({lacking.get(name)}): " in said) == (name in lacking)
        assert "Traceback" not in said
