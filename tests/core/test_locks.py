"""One process at a time keeps a path; a process that ended, however it ended, keeps nothing.

A lock belongs to an open file, so a second one in this process stands for another process.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from core import locks
from core.errors import InputError
from core.locks import locked


def test_a_path_that_is_kept_is_refused_by_its_name_and_free_afterwards_without_a_trace(tmp_path):
    path, other = tmp_path / "bundle", tmp_path / "production"
    with locked(path), pytest.raises(InputError, match="bundle is in use by another process"), locked(other, path):
        pass
    with locked(path, other, path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_link_and_its_folder_are_one_path(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "bundle").symlink_to(tmp_path / "disk")
    with locked(tmp_path / "bundle"), pytest.raises(InputError, match="in use"), locked(tmp_path / "disk"):
        pass


def test_a_killed_process_keeps_nothing(tmp_path):
    code = (
        "import os, signal, sys; from pathlib import Path; from core.locks import locked\n"
        "with locked(Path(sys.argv[1])):\n os.kill(os.getpid(), signal.SIGKILL)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "bundle")]
    assert subprocess.run(command, cwd=Path(__file__).parents[2], check=False).returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 1
    with locked(tmp_path / "bundle"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_lock_whose_file_was_removed_before_it_was_taken_is_taken_anew(tmp_path, monkeypatch):
    """The former holder removes the file between the opening and the lock of the next one."""
    path, file = tmp_path / "bundle", tmp_path / ".bundle.lock"
    flock, left = locks.fcntl.flock, [file]

    def remove_first(*arguments):
        if left:
            left.pop().unlink()
        flock(*arguments)

    monkeypatch.setattr(locks.fcntl, "flock", remove_first)
    with locked(path), pytest.raises(InputError, match="in use"), locked(path):
        pass
