"""A path from the command line that cannot be used gives one sentence in every command; another path does not."""

from __future__ import annotations

import errno
import os

import pytest

from core.cli import run_command
from core.files import replacing, replacing_folder, write_json
from tests.test_commands import call


@pytest.fixture
def inside_a_file(tmp_path):
    """A path that nobody can write, not even root."""
    (tmp_path / "file").write_text("kept")
    return tmp_path / "file" / "out"


@pytest.fixture
def arguments(monkeypatch):
    return lambda *values: monkeypatch.setattr("sys.argv", ["command", *map(str, values)])


def test_pack_says_in_a_sentence_that_out_cannot_be_written(inside_a_file):
    done = call("training", "pack", "synthetic://?rows=60", "--size", "32", "--out", str(inside_a_file))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert f"error: {inside_a_file.parent} cannot be used (a file stands where a folder is needed)" in done.stderr


@pytest.mark.parametrize("flags", [["--out={}"], ["--out", "{}"], ["{}"]])
def test_a_path_is_named_with_its_flag_or_alone(inside_a_file, arguments, capsys, flags):
    arguments(*(flag.format(inside_a_file) for flag in flags))
    assert run_command(lambda: write_json(inside_a_file / "run.json", {})) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_path_that_nobody_named_is_a_fault_of_ours(inside_a_file, arguments, tmp_path, monkeypatch, capsys):
    arguments("--out", tmp_path / "other", "--epochs=3", "")
    monkeypatch.chdir(tmp_path)
    assert run_command(lambda: write_json(inside_a_file, {})) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("writing", [replacing, replacing_folder])
def test_a_full_disk_is_said_of_the_path_that_was_asked_for(writing, arguments, tmp_path, capsys):
    """The error of a write has no file name, and the temporary file is not the one that was named."""
    arguments("--out", tmp_path / "out")

    def fill():
        with writing(tmp_path / "out") as temporary:
            with (temporary if temporary.is_dir() else temporary.parent).joinpath("part").open("wb") as stream:
                stream.write(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    assert run_command(fill) == 2
    assert f"{tmp_path / 'out'} cannot be used (No space left on device): make room" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
