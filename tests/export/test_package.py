"""The archive runs where it is unpacked, is the same bytes again, and no other archive gets out of its folder."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import venv
from dataclasses import replace

import pytest

from export.commands import package as command
from export.package import write_archive
from inference.archive import unpack
from inference.choice import Choice, this_machine
from inference.contract import onnx_name, open_bundle
from inference.errors import InputError
from inference.runs import open_run
from tests.export import runs


@pytest.fixture(scope="module")
def produced(exported, tmp_path_factory):
    """A copy of the exported run with a production folder, as the benchmark leaves it."""
    path = tmp_path_factory.mktemp("produced") / "runs" / "colours"
    shutil.copytree(exported, path)
    shutil.copytree(path / runs.ARCH / "bundle", path / "production")
    bundle = open_bundle(path / "production")
    replace(bundle, choice=Choice("int8", "ort", 1, this_machine())).save()
    return path


@pytest.fixture(scope="module")
def archive(produced):
    assert command.main([str(produced)]) == 0
    return produced / "rearguard-colours.tar.gz"


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
    assert {name.split("/")[0] for name in names if name.endswith(".py")} == {"inference"}


def test_the_same_run_gives_the_same_archive(archive, produced, tmp_path):
    assert command.main([str(produced), "--out", str(tmp_path / "again.tar.gz")]) == 0
    assert (tmp_path / "again.tar.gz").read_bytes() == archive.read_bytes()


def test_with_proof_every_candidate_and_the_test_rows_go_along(produced, tmp_path, capsys):
    out = tmp_path / "proof.tar.gz"
    assert command.main([str(produced), "--with-proof", "--out", str(out), "--json"]) == 0
    unpack(out, tmp_path / "device")
    run = open_run(tmp_path / "device" / "runs" / "colours")
    pack = run.open_pack()
    assert (len(pack.rows("test")), len(pack.rows("train"))) == (60, 0)
    whole = open_run(produced).open_pack()
    assert pack.facts["taken_rows"] == whole.rows("test").tolist()
    assert set(run.bundles()) == {runs.ARCH}
    assert (tmp_path / "device" / "benchmarks" / "choose.py").is_file()
    assert json.loads(capsys.readouterr().out)["bytes"] == out.stat().st_size


def test_a_damaged_production_is_not_packed(produced, tmp_path):
    path = tmp_path / "colours"
    shutil.copytree(produced, path)
    model = path / "production" / onnx_name("int8")
    model.write_bytes(model.read_bytes()[:-1])
    with pytest.raises(InputError, match="not the file that was proved"):
        command.main([str(path)])


def test_a_run_without_a_choice_says_what_to_do(exported):
    with pytest.raises(InputError, match="python -m benchmarks"):
        command.main([str(exported)])


def forge(path, *members):
    with tarfile.open(path, "w:gz") as packed:
        for info, data in members:
            info.size = len(data)
            packed.addfile(info, io.BytesIO(data))
    return path


def link(name, target):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    return info


@pytest.mark.parametrize(
    ("member", "said"),
    [
        (tarfile.TarInfo("top/../../out.txt"), "leaves the folder"),
        (tarfile.TarInfo("/etc/out.txt"), "leaves the folder"),
        (tarfile.TarInfo("out.txt"), "leaves the folder"),
        (tarfile.TarInfo("top/..\\out.txt"), "leaves the folder"),
        (link("top/bundle", "/etc"), "is not a plain file"),
        (tarfile.TarInfo("top/unlisted.py"), "holds no SHA256SUMS"),
    ],
)
def test_a_forged_archive_writes_nothing(tmp_path, member, said):
    forged = forge(tmp_path / "forged.tar.gz", (member, b"x" if member.isreg() else b""))
    with pytest.raises(InputError, match=said):
        unpack(forged, tmp_path / "device")
    assert [path.name for path in tmp_path.iterdir()] == ["forged.tar.gz"]


def test_a_member_with_other_bytes_or_one_too_many_is_named(tmp_path):
    write_archive(tmp_path / "good.tar.gz", "top", {"a.txt": b"a"})
    with tarfile.open(tmp_path / "good.tar.gz") as packed:
        sums = packed.extractfile("top/SHA256SUMS").read()
    entry = (tarfile.TarInfo("top/SHA256SUMS"), sums)
    for extra, said in [
        ([(tarfile.TarInfo("top/a.txt"), b"b")], "a.txt is not the file that was packed"),
        (
            [(tarfile.TarInfo("top/a.txt"), b"a"), (tarfile.TarInfo("top/b.py"), b"")],
            r"b\.py is not what SHA256SUMS lists",
        ),
    ]:
        with pytest.raises(InputError, match=said):
            unpack(forge(tmp_path / "bad.tar.gz", entry, *extra), tmp_path / "device")
    assert unpack(tmp_path / "good.tar.gz", tmp_path / "device") == 2


def test_a_claim_of_gigabytes_and_a_cut_file_are_refused(archive, tmp_path):
    info = tarfile.TarInfo("top/huge.bin")
    info.size = 3 << 30
    import gzip

    (tmp_path / "huge.tar.gz").write_bytes(gzip.compress(info.tobuf() + bytes(1024)))
    (tmp_path / "cut.tar.gz").write_bytes(archive.read_bytes()[:5000])
    for name in ("huge", "cut"):
        with pytest.raises(InputError, match=f"{name}.tar.gz"):
            unpack(tmp_path / f"{name}.tar.gz", tmp_path / "device")
        assert not (tmp_path / "device").exists()


def test_an_archive_over_the_limit_is_refused_before_a_byte_is_written(archive, tmp_path, monkeypatch):
    monkeypatch.setattr("inference.archive.LIMIT_BYTES", 10_000)
    monkeypatch.setattr("inference.archive._write", lambda *_: pytest.fail("it was unpacked"))
    with pytest.raises(InputError, match=r"claims more than 10000 bytes"):
        unpack(archive, tmp_path / "device")


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
