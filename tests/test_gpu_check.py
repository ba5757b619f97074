"""`make gpu-check` without a GPU: its parts, its result file, and its sentences where something is missing."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from core.errors import CheckError, InputError
from tests.gpu import check, parts
from tests.gpu.machine import examine
from tests.gpu.parts import DRY, ROOT, Prototype, Work, run_module

MACHINE = {"device": "cpu", "commit": "0" * 40, "dirty": False, "missing": []}
WITHOUT_RICH_AND_IMAGEHASH = """
import sys
sys.modules.update(dict.fromkeys(["rich", "imagehash", "tensorboard", "sklearn", "matplotlib"]))
import training.commands.bench
from core.cli import dispatch
sys.argv[1:] = ["train", "synthetic", "--out", "/nowhere/run"]
raise SystemExit(dispatch("training", "training.commands"))
"""
WITHOUT_TORCH = """
import runpy, sys
sys.modules["torch"] = None
sys.argv[1:] = ["cuda"]
runpy.run_module("tests.gpu.machine", run_name="__main__")
"""
PROTOTYPE = """
import os, torch
from collections import namedtuple
named = lambda name: Recipe(name, 1)
from dataclasses import dataclass
@dataclass
class Recipe: name: str; batch: int
class Data:
    def __init__(self, images, labels, splits, classes): assert len(images) == len(labels) and classes == 6
def aug2(): pass
class Trainer:
    def __init__(self, data, arch, recipe, seed, compiled, aug):
        assert (recipe.batch, compiled, os.environ["PROJECT"]) == (8, True, PROJECT)
        self.net, self.lr = torch.nn.Identity(), torch.zeros(())
        self.idx, self.P = torch.zeros(8, dtype=torch.int64), torch.zeros(8, 61)
    def feeder(self, epoch, queue):
        for _ in range(3): queue.put((torch.zeros(8, dtype=torch.int64), torch.zeros(8, 61)))
        queue.put(None)
    def graph(self, side): return self
    def replay(self): pass
"""
PLAIN_TESTS = """
import os
def test_good(pytestconfig):
    assert not any(map(pytestconfig.pluginmanager.hasplugin, ["xdist", "timeout", "benchmark"]))
    assert os.environ["REARGUARD_DEVICE"] == "cpu"
def test_bad():
    assert 1 == 2
"""


@pytest.fixture
def fakes(monkeypatch):
    """Four parts, of which the second and the third fail, and a machine that is described at once."""

    def good(work):
        yield "device", work.device

    def bad(work):
        yield "seconds", 1.5
        raise CheckError("the engine was refused")

    def faulty(work):
        yield from {}["none"]

    monkeypatch.setattr(check, "PARTS", {"good": good, "bad": bad, "faulty": faulty, "last": good})
    monkeypatch.setattr(check, "describe_machine", lambda device: dict(MACHINE))


def run_check(folder, *arguments):
    code = check.main(["--device", "cpu", "--out", str(folder), *arguments])
    (file,) = folder.iterdir()
    return code, json.loads(file.read_text())


def test_a_part_that_fails_stops_no_other_and_its_reason_and_figures_stay(fakes, tmp_path, capsys):
    code, result = run_check(tmp_path / "results")
    assert code == 1
    assert [part["passed"] for part in result["parts"].values()] == [True, False, False, True]
    assert result["parts"]["bad"]["reason"] == "the engine was refused"
    assert result["parts"]["bad"]["figures"] == {"seconds": 1.5}
    assert result["parts"]["faulty"]["reason"] == "KeyError: 'none'"
    assert "bad: the engine was refused" in capsys.readouterr().out


def test_only_the_parts_asked_for_run_in_the_order_given(fakes, tmp_path):
    code, result = run_check(tmp_path / "results", "--only", "last,good")
    assert (code, list(result["parts"])) == (0, ["last", "good"])
    assert result["dry_run"]
    assert result["machine"]["commit"] == MACHINE["commit"]


def test_what_was_measured_is_in_the_file_before_the_next_part_begins(fakes, tmp_path, monkeypatch):
    def looking(work):
        (file,) = tmp_path.iterdir()
        yield "seen", list(json.loads(file.read_text())["parts"])

    monkeypatch.setitem(check.PARTS, "last", looking)
    assert run_check(tmp_path, "--only", "good,last")[1]["parts"]["last"]["figures"]["seen"] == ["good"]


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (
            ["--only", "tests,sped"],
            "there is no part 'sped': choose from tests, speed, prototype, train, backends, detector",
        ),
        (["--data", "/nowhere/photos"], "/nowhere/photos does not exist"),
        (["--epochs", "0"], "epochs is 0"),
        (["--prototype", "p.py"], "--prototype and --project belong together"),
        (["--prototype", "/nowhere/p.py", "--project", "."], "/nowhere/p.py does not exist"),
    ],
)
def test_a_wrong_command_is_one_sentence(wrong, sentence):
    with pytest.raises(InputError, match=sentence):
        check.read_arguments(wrong)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_it_is_one_sentence_exit_2_and_no_file(tmp_path):
    command = [sys.executable, "-m", "tests.gpu", "--out", str(tmp_path / "results")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: torch ")
    assert "sees no CUDA device" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "results").exists()


def test_a_python_without_torch_is_told_so_in_one_sentence():
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH], cwd=ROOT, capture_output=True, text=True, check=False
    )  # fmt: skip
    assert done.returncode == 2
    assert "lacks the package torch" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_machine_is_described_with_what_is_missing():
    machine = examine("cpu")
    assert machine["packages"].keys().isdisjoint(machine["missing"])
    assert {"torch", "numpy", "imagehash"} <= {*machine["packages"], *machine["missing"]}
    assert machine["driver"] == "none used"


def test_a_command_that_fails_gives_its_own_sentence_as_the_reason():
    with pytest.raises(CheckError, match=r"inference ended with 2: error: .*nowhere"):
        run_module("inference", "verify", "/nowhere")


def test_the_tests_run_without_plugins_and_a_failure_is_named(tmp_path, monkeypatch):
    here, folder = tmp_path / "here", tmp_path / "work"
    here.mkdir()
    folder.mkdir()
    shutil.copy(Path(parts.__file__).with_name("plain.ini"), here)
    (here / "test_some.py").write_text(PLAIN_TESTS)
    monkeypatch.setattr(parts, "TESTS", str(here))
    part = check.run_part("tests", Work("cpu", folder, DRY))
    assert {case["name"]: case["result"] for case in part["figures"]["tests"]} == {
        "test_good": "passed", "test_bad": "failed",
    }  # fmt: skip
    assert part["reason"] == "1 of 2 tests failed, first test_bad: assert 1 == 2"


def test_without_a_prototype_its_part_says_not_measured_and_passes(tmp_path):
    part = check.run_part("prototype", Work("cpu", tmp_path, DRY))
    assert (part["passed"], list(part["figures"])) == (True, ["not measured"])


def test_without_a_detector_its_part_says_not_measured_and_passes(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "DETECTOR", tmp_path / "none.onnx")
    part = check.run_part("detector", Work("cpu", tmp_path, DRY))
    assert (part["passed"], list(part["figures"])) == (True, ["not measured"])


@pytest.mark.parametrize(("ours", "reason"), [(1e9, ""), (1e-9, "of the prototype's images/s: 85% are wanted")])
def test_the_loop_is_compared_with_a_prototype_in_turns(tmp_path, monkeypatch, ours, reason):
    file = tmp_path / "prototype.py"
    file.write_text(f"PROJECT = {str(tmp_path)!r}\n{PROTOTYPE}")
    monkeypatch.setattr(parts, "_bench", lambda *_: {"images_per_s": {DRY.archs[0]: ours}})
    part = check.run_part("prototype", Work("cpu", tmp_path, replace(DRY, rounds=2), Prototype(file, tmp_path)))
    (figures,) = part["figures"].values()
    assert len(figures["images_per_s, ours and prototype"]) == 2
    assert reason in part["reason"]
    assert bool(reason) != part["passed"]


def test_a_missing_package_is_a_sentence_and_the_bench_needs_none_of_those_for_packing_and_drawing():
    command = [sys.executable, "-c", WITHOUT_RICH_AND_IMAGEHASH]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "lacks the package" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.prove
def test_all_parts_run_dry_on_the_cpu(tmp_path):
    """What the parts drive and read is there: the commands, their flags, and the files and figures they leave."""
    command = [sys.executable, "-m", "tests.gpu", "--device", "cpu", "--out", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True)
    (file,) = tmp_path.iterdir()
    figures = {name: part["figures"] for name, part in json.loads(file.read_text())["parts"].items()}
    assert figures["speed"]["32 px"]["rows"][0]["step_alone"] > 0
    assert figures["train"][DRY.archs[0]]["images_per_s"] > 0
    assert any(name.endswith("fp32 ort x1") for name in figures["backends"]["latency"])
    assert {line["result"] for line in figures["backends"]["verify"]} <= {"passed", "unavailable"}
    if parts.DETECTOR.is_file():
        assert figures["detector"]["detect_ms, median of a frame, in turns"]["ort"][0] > 0
