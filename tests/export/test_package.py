"""The archive runs where it is unpacked, is the same bytes again, and sha256sum says when a file of it changed."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import venv
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.commands.measure import main as measure
from core.bundle.contract import onnx_name, open_bundle
from core.bundle.production_choice import ProductionChoice, this_machine
from core.data.run_dir import open_run
from core.errors import InputError
from core.geometry.detector_config import DetectorConfig
from core.locks import locked
from export.commands import package as command
from export.commands.bundle import main as export
from export.package import DEVICE, write_archive
from inference.commands.build import main as build
from tests.export import runs

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def produced(exported, tmp_path_factory):
    """A copy of the exported run with a production folder, as the benchmark leaves it."""
    path = tmp_path_factory.mktemp("produced") / "runs" / "colours"
    shutil.copytree(exported, path)
    shutil.copytree(path / runs.ARCH / "bundle", path / "production")
    bundle = open_bundle(path / "production")
    replace(bundle, choice=ProductionChoice("int8", "ort", 1, this_machine())).save()
    return path


@pytest.fixture(scope="module")
def archive(produced):
    assert command.main([str(produced)]) == 0
    return produced / "rearguard-colours.tar.gz"


def unpack(archive, folder):
    """Unpack as the device README says: tar, then sha256sum over every file."""
    with tarfile.open(archive) as packed:
        packed.extractall(folder.parent / "unpacked", filter="data")
    (top,) = (folder.parent / "unpacked").iterdir()
    top.rename(folder)
    done = check_sums(folder)
    assert done.returncode == 0, done.stdout
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {line.removesuffix(": OK") for line in done.stdout.splitlines()} == files - {"SHA256SUMS"}


def check_sums(folder):
    command = ["sha256sum", "--strict", "-c", "SHA256SUMS"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def run_there(folder, *arguments, python=sys.executable):
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"PYTHON": python}
    command = [str(folder / "run.sh"), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd="/")


def test_the_unpacked_folder_runs_the_synthetic_camera(archive, tmp_path):
    unpack(archive, tmp_path / "device")
    done = run_there(tmp_path / "device", "--frames", "5", "--out", str(tmp_path / "drive"))
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "drive" / "decisions.jsonl").read_text().splitlines()) == 5


def test_it_holds_what_a_device_needs_and_nothing_that_trains(archive):
    with tarfile.open(archive) as packed:
        names = {name.split("/", 1)[1] for name in packed.getnames()}
    assert {"run.sh", "rearguard.service", "README.md", "Dockerfile", "LICENSE", "SHA256SUMS"} <= names
    assert {"requirements/x86-64.txt", "requirements/aarch64.txt", "bundle/bundle.json"} <= names
    code = {name for name in names if name.endswith(".py")}
    assert {name.split("/")[0] for name in code} == {"core", "inference"}
    assert not [name for name in code if any(word in name for word in ("bench", "hotpath", "loadgen", "peers"))]


def pinned(file):
    """Return {package: version} of a lock; ONNX Runtime with CUDA has another name, and the same code for a CPU."""
    pins = re.findall(r"^([a-z0-9._-]+)==(\S+)", file.read_text(), re.MULTILINE)
    return {name.removesuffix("-gpu"): version for name, version in pins}


@pytest.mark.parametrize("name", ["x86-64.txt", "benchmark.txt"])
def test_the_device_gets_the_versions_that_the_files_were_proved_with(name):
    here, there = pinned(ROOT / "requirements" / "dev.txt"), pinned(DEVICE / name)
    assert "onnxruntime" in there
    assert {name: here.get(name) for name in there} == there


def test_it_says_what_the_archive_runs_and_for_which_devices_it_has_engines(produced, tmp_path, capsys):
    out = str(tmp_path / "a.tar.gz")
    assert command.main([str(produced), "--out", out]) == 0
    _, runs_what, engines = capsys.readouterr().out.splitlines()
    assert runs_what == f"it runs {runs.ARCH} in fp32, fp16, int8, chosen for ort"
    assert "int8 for sm86 (tensorrt_rtx " in engines
    path = tmp_path / "colours"
    shutil.copytree(produced, path)
    shutil.rmtree(path / "production" / "engines")
    assert command.main([str(path), "--out", out]) == 0
    assert capsys.readouterr().out.splitlines()[2].startswith("no engines: ")


def test_the_same_run_gives_the_same_archive(archive, produced, tmp_path):
    assert command.main([str(produced), "--out", str(tmp_path / "again.tar.gz")]) == 0
    assert (tmp_path / "again.tar.gz").read_bytes() == archive.read_bytes()


def test_with_benchmark_every_candidate_and_the_test_rows_go_along(produced, tmp_path, capsys):
    out = tmp_path / "proof.tar.gz"
    assert command.main([str(produced), "--with-benchmark", "--out", str(out), "--json"]) == 0
    unpack(out, tmp_path / "device")
    run = open_run(tmp_path / "device" / "runs" / "colours")
    pack = run.open_pack()
    assert (len(pack.rows("test")), len(pack.rows("train"))) == (60, 0)
    whole = open_run(produced).open_pack()
    assert pack.metadata["taken_rows"] == whole.rows("test").tolist()
    assert set(run.bundles()) == {runs.ARCH}
    imported = [sys.executable, "-c", "import benchmarks.commands.measure"]
    done = subprocess.run(imported, cwd=tmp_path / "device", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(capsys.readouterr().out)["bytes"] == out.stat().st_size


def test_a_damaged_production_is_not_packed(produced, tmp_path):
    path = tmp_path / "colours"
    shutil.copytree(produced, path)
    model = path / "production" / onnx_name("int8")
    model.write_bytes(model.read_bytes()[:-1])
    with pytest.raises(InputError, match="not the file that was proved"):
        command.main([str(path)])


@pytest.mark.parametrize("change", [{"abstain_threshold": 0.7}, {"detector": DetectorConfig()}])
def test_a_production_older_than_its_bundle_is_not_packed(produced, tmp_path, change):
    path = tmp_path / "colours"
    shutil.copytree(produced, path)
    replace(open_bundle(path / runs.ARCH / "bundle"), **change).save()
    with pytest.raises(InputError, match="make benchmark RUN=colours"):
        command.main([str(path)])


def test_a_model_that_was_exported_anew_is_not_packed_as_the_earlier_one(produced, tmp_path):
    path = tmp_path / "colours"
    shutil.copytree(produced, path)
    bundle = open_bundle(path / runs.ARCH / "bundle")
    for precision, refused in (("fp32", False), ("int8", True)):
        name = onnx_name(precision)
        (bundle.path / name).write_bytes((bundle.path / name).read_bytes() + b"\0")
        bundle.with_files(list(bundle.files)).save()
        if refused:
            with pytest.raises(InputError, match=name):
                command.main([str(path)])
        else:
            assert command.main([str(path)]) == 0


def test_an_export_says_that_production_is_older(produced, tmp_path, caplog):
    path = tmp_path / "colours"
    shutil.copytree(produced, path)
    assert export([str(path), "--precisions", "fp32", "--engines"]) == 0
    assert "holds the earlier choice: run the benchmark again: make benchmark RUN=colours" in caplog.text


def test_an_export_of_another_size_says_nothing_of_production_which_cannot_hold_it(produced, tmp_path, caplog):
    path = tmp_path / "colours"
    shutil.copytree(produced, path)
    assert export([str(path), "--precisions", "fp32", "--engines", "--size", "48"]) == 0
    assert "production" not in caplog.text


def test_a_run_without_a_choice_says_what_to_do(exported):
    with pytest.raises(InputError, match="python -m benchmarks"):
        command.main([str(exported)])


def test_a_file_that_changed_on_the_way_is_named_by_sha256sum(tmp_path):
    write_archive(tmp_path / "good.tar.gz", "top", {"a.txt": b"a", "b.sh": b"b"})
    unpack(tmp_path / "good.tar.gz", tmp_path / "device")
    (tmp_path / "device" / "a.txt").write_bytes(b"c")
    done = check_sums(tmp_path / "device")
    assert done.returncode == 1
    assert "a.txt: FAILED" in done.stdout


def test_a_production_whose_source_is_missing_is_not_packed(produced, tmp_path):
    path = tmp_path / "colours"
    shutil.copytree(produced, path)
    shutil.rmtree(path / runs.ARCH / "bundle")
    with pytest.raises(InputError, match=r"bundle, from which .*production was chosen, is missing: export the run"):
        command.main([str(path)])


@pytest.mark.parametrize("folder", ["production", f"{runs.ARCH}/bundle", "production/deeper"])
def test_an_archive_inside_a_bundle_is_refused(produced, folder):
    out = produced / folder / "a.tar.gz"
    with pytest.raises(InputError, match=r"a\.tar\.gz lies in the bundle .*: name another --out"):
        command.main([str(produced), "--out", str(out)])
    assert not out.exists()


def test_test_rows_that_a_killed_process_left_beside_the_archive_are_removed_by_the_next(produced, tmp_path):
    out = tmp_path / "out" / "a.tar.gz"
    code = (
        "import os, signal, sys; from export.commands import package\n"
        "package.write_archive = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "package.main(sys.argv[1:])"
    )
    arguments = [str(produced), "--with-benchmark", "--out", str(out)]
    done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    assert [path.name for path in out.parent.glob(".a.tar.gz.*.tmp/pack/images.npy")]
    assert command.main(arguments[:1] + arguments[2:]) == 0
    assert [path.name for path in out.parent.iterdir()] == [out.name]


def test_bundles_and_production_that_another_process_writes_are_left_to_it(produced):
    """A lock belongs to an open file, so a second one in this process stands for another process."""
    bundle, production = produced / runs.ARCH / "bundle", produced / "production"
    before = {path: path.stat().st_ino for path in (bundle, production)}
    writing_a_bundle = (
        lambda: export([str(produced), "--precisions", "fp32", "--engines"]),
        lambda: command.main([str(produced), "--with-benchmark"]),
        lambda: build([str(bundle), "--sm", "86"]),
        lambda: measure([str(produced)]),
    )
    with locked(bundle):
        for main in writing_a_bundle:
            with pytest.raises(InputError, match="bundle is in use by another process: wait until it ends"):
                main()
    with locked(production):
        for main in (lambda: command.main([str(produced)]), lambda: measure([str(produced)])):
            with pytest.raises(InputError, match="production is in use by another process"):
                main()
    assert {path: path.stat().st_ino for path in (bundle, production)} == before


@pytest.mark.prove
def test_it_runs_in_a_clean_environment_of_its_own_requirements(archive, tmp_path):
    """Needs the package index. No torch comes along, and the size of what does is printed."""
    device = tmp_path / "device"
    unpack(archive, device)
    venv.create(device / ".venv", with_pip=True)
    python = device / ".venv" / "bin" / "python"
    lock = device / "requirements" / "x86-64.txt"
    subprocess.run([python, "-m", "pip", "install", "-q", "--require-hashes", "-r", lock], check=True)
    assert subprocess.run([python, "-c", "import torch"], capture_output=True, check=False).returncode != 0
    for backend in ("ort", "openvino"):
        out = tmp_path / backend
        done = run_there(device, "--frames", "20", "--backend", backend, "--out", str(out), python=str(python))
        assert done.returncode == 0, done.stderr
        assert len((out / "decisions.jsonl").read_text().splitlines()) == 20
    size = sum(path.stat().st_size for path in device.rglob("*") if path.is_file())
    print(f"installed: {size / 2**20:.0f} MiB with its environment")
