"""Files are whole or absent, and hashes are of the canonical form."""

from __future__ import annotations

import errno
import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import files
from core.errors import InputError
from core.files import (
    canonical_json,
    put_back,
    put_back_inside,
    read_json,
    replacing,
    replacing_folder,
    sha256_of_json,
    write_json,
)
from tests.killed_replacement import kill_between_renames

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def test_a_failed_write_leaves_the_old_file_and_no_rubbish(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_folder_write_leaves_the_old_folder_and_no_rubbish(tmp_path):
    path = tmp_path / "bundle"
    with replacing_folder(path) as temporary:
        (temporary / "a").write_text("old")
    with pytest.raises(RuntimeError), replacing_folder(path) as temporary:
        (temporary / "a").write_text("half")
        raise RuntimeError
    assert (path / "a").read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["pack", "runs [1]*", "rearguard-a.tar.gz"])
def test_what_killed_processes_left_is_removed_and_what_others_write_stays(tmp_path, name):
    dead = subprocess.Popen(["true"])
    dead.wait()
    stays = [f".{name}.{os.getppid()}.tmp", f".other.{dead.pid}.tmp", f".{name}.mine.tmp", f"{name}.{dead.pid}.tmp"]
    for file in stays:
        (tmp_path / file).touch()
    (tmp_path / f".{name}.{dead.pid}.tmp").touch()
    write_json(tmp_path / name, {})
    assert {path.name for path in tmp_path.iterdir()} == {name, *stays}
    (tmp_path / name).unlink()
    (tmp_path / f".{name}.{dead.pid}.tmp" / "inside").mkdir(parents=True)
    with replacing_folder(tmp_path / name):
        assert not (tmp_path / f".{name}.{dead.pid}.tmp").exists(), "it may take the room that is needed now"
    assert {path.name for path in tmp_path.iterdir()} == {name, *stays}


def test_a_replaced_folder_holds_nothing_of_the_old_one(tmp_path):
    path = tmp_path / "bundle"
    for name in ("old", "new"):
        with replacing_folder(path) as temporary:
            (temporary / name).write_text(name)
    assert [p.name for p in path.iterdir()] == ["new"]


@pytest.mark.parametrize("stopped_at", range(1, 6))
def test_a_folder_that_is_stopped_while_it_takes_its_place_is_the_old_or_the_new_one(tmp_path, monkeypatch, stopped_at):
    """At the sync of the file, of the folder, at the first rename, at the second, or at the sync after them."""
    path, steps = tmp_path / "bundle", itertools.count(1)
    monkeypatch.setattr(files, "_exchange", lambda *_: False)
    with replacing_folder(path) as temporary:
        (temporary / "a").write_text("old")

    def stop_at(step):
        def wrapped(*arguments):
            if next(steps) == stopped_at:
                raise KeyboardInterrupt
            return step(*arguments)

        return wrapped

    with pytest.raises(KeyboardInterrupt), replacing_folder(path) as temporary:
        (temporary / "a").write_text("new")
        monkeypatch.setattr(files.os, "replace", stop_at(os.replace))
        monkeypatch.setattr(files, "fsync_path", stop_at(files.fsync_path))
    assert [(file.name, file.read_text()) for file in path.iterdir()] == [("a", "new" if stopped_at == 5 else "old")]
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_there_at_every_moment_where_the_disk_exchanges_names(tmp_path, monkeypatch):
    for name in ("probe", "other"):
        (tmp_path / name).mkdir()
    if not files._exchange(tmp_path / "probe", tmp_path / "other"):
        pytest.skip("this disk cannot exchange two names")
    path, missing, replace = tmp_path / "bundle", [], os.replace
    path.mkdir()

    def replace_and_look(source, target):
        replace(source, target)
        missing.append(not path.exists())

    monkeypatch.setattr(files.os, "replace", replace_and_look)
    with replacing_folder(path) as temporary:
        (temporary / "a").write_text("new")
    assert ([file.name for file in path.iterdir()], any(missing)) == (["a"], False)


@pytest.fixture
def killed_between(tmp_path):
    """A folder whose process was killed between the two renames, on a disk that cannot exchange names."""
    path = tmp_path / "run" / "bundle"
    path.mkdir(parents=True)
    (path / "a").write_text("old")
    kill_between_renames(path)
    return path


@pytest.mark.parametrize("folder", ["run/bundle", "run", ""])
def test_a_folder_whose_replacement_was_killed_is_put_back_with_a_warning(tmp_path, killed_between, folder, caplog):
    put_back_inside(tmp_path / folder) if folder != "run/bundle" else put_back(killed_between)
    assert (killed_between / "a").read_text() == "old"
    assert f"{killed_between} was missing" in caplog.text


def test_the_next_replacement_reads_what_the_killed_one_moved_aside(killed_between, tmp_path):
    with replacing_folder(killed_between) as new:
        (new / "a").write_text((killed_between / "a").read_text() + " and new")
    assert (killed_between / "a").read_text() == "old and new"
    assert list(killed_between.parent.iterdir()) == [killed_between]


def test_what_a_living_process_moved_aside_is_left_to_it(tmp_path):
    aside = tmp_path / f".bundle.old.{os.getppid()}.tmp"
    aside.mkdir()
    put_back(tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == [aside]


def test_a_link_to_a_folder_stays_and_the_folder_is_replaced(tmp_path):
    (tmp_path / "disk" / "bundle").mkdir(parents=True)
    (tmp_path / "run").mkdir()
    link = tmp_path / "run" / "bundle"
    link.symlink_to(tmp_path / "disk" / "bundle")
    with replacing_folder(link) as new:
        (new / "a").write_text("new")
    assert link.is_symlink()
    assert (tmp_path / "disk" / "bundle" / "a").read_text() == "new"
    assert [len(list((tmp_path / name).iterdir())) for name in ("run", "disk")] == [1, 1]


def test_a_link_to_nothing_is_not_replaced(tmp_path):
    link = tmp_path / "bundle"
    link.symlink_to(tmp_path / "disk" / "bundle")
    with pytest.raises(InputError, match=r"bundle is a link to .*which does not exist"), replacing_folder(link):
        pass
    assert list(tmp_path.iterdir()) == [link]


def test_a_read_only_disk_is_said_of_the_file_that_was_asked_for(tmp_path, monkeypatch):
    """There the removal of the temporary file fails too, whether it is there or not."""

    def refuse(path, *_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    for step in ("write_text", "unlink"):
        monkeypatch.setattr(Path, step, refuse)
    with pytest.raises(OSError, match="Read-only") as caught:
        write_json(tmp_path / "x.json", {})
    assert caught.value.filename == str(tmp_path / "x.json")


def test_what_a_process_left_that_was_killed_while_it_removed_the_old_folder_is_removed(tmp_path):
    path = tmp_path / "bundle"
    (path / "inside").mkdir(parents=True)
    code = (
        "import os, shutil, signal, sys; from pathlib import Path; from core.files import replacing_folder\n"
        "with replacing_folder(Path(sys.argv[1])):\n"
        " shutil.rmtree = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], cwd=Path(__file__).parents[2], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 2
    with replacing_folder(path):
        pass
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_where_a_folder_belongs_stays_and_is_named(tmp_path):
    path = tmp_path / "report"
    path.write_text("mine")
    with pytest.raises(NotADirectoryError) as caught, replacing_folder(path) as temporary:
        (temporary / "results.json").write_text("{}")
    assert caught.value.filename == str(path)
    assert [file.read_text() for file in tmp_path.iterdir()] == ["mine"]


def test_kill_inside_a_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    code = (
        "import os, signal, sys; from pathlib import Path; from core.files import replacing\n"
        "with replacing(Path(sys.argv[1])) as t:\n t.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], cwd=Path(__file__).parents[2], check=False)
    assert done.returncode == -signal.SIGKILL
    assert json.loads(path.read_text()) == {"a": 1}


@given(JSON)
def test_the_hash_does_not_depend_on_the_order_of_keys(value):
    shuffled = {"b": value, "a": 1}
    assert sha256_of_json({"a": 1, "b": value}) == sha256_of_json(shuffled)


@given(JSON)
def test_canonical_json_loses_nothing(value):
    assert json.loads(canonical_json(value)) == value


NOT_FINITE = ['{"a": NaN}', '{"a": -Infinity}', "[1e999]", "9" * 5000 + ".0"]


@pytest.mark.parametrize("text", ["", "{", "nul", "[" * 100_000, '{"a": 1, "b": {"c": 1, "c": 2}}', *NOT_FINITE])
def test_broken_json_names_the_file(tmp_path, text):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"x\.json"):
        read_json(path)


def test_nan_is_never_written(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"a": float("nan")})
    assert not list(tmp_path.iterdir())


def test_a_pipe_or_device_is_not_replaced(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(InputError, match="pipe is a device or a pipe: name a file"):
        write_json(path, {})
    assert path.is_fifo()
