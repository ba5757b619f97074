"""A training whose files were damaged is not resumed without a word; what a killed process had not yet written is."""

from __future__ import annotations

import shutil

import pytest

from core.errors import InputError
from tests.export.runs import write_small_pack
from training.commands.train import main

ARCH = "squeezenet_inspired"
SETTINGS = ["--models", ARCH, "--epochs", "2", "--batch", "32", "--threads", "1", "--precision", "fp32",
            "--memory-format", "channels_last"]  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The arguments of a training that ended."""
    folder = tmp_path_factory.mktemp("trained")
    write_small_pack(folder / "pack")
    arguments = [str(folder / "pack"), *SETTINGS]
    assert not main([*arguments, "--out", str(folder / "run")])
    return folder / "run", arguments


@pytest.fixture
def unfinished(trained, tmp_path):
    """The folder of a network that lacks only its last step, and what resumes it."""
    run, arguments = trained
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / ARCH / "metrics.json").unlink()
    return tmp_path / "run" / ARCH, lambda: main([*arguments, "--out", str(tmp_path / "run"), "--resume"])


def cut(file):
    file.write_bytes(file.read_bytes()[:60])


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("last/state.json", cut),
        ("history.csv", cut),
        ("history.csv", lambda file: file.write_text("a,b")),
        ("history.csv", lambda file: file.write_bytes(b"")),
        ("history.csv", lambda file: file.write_bytes(b"\xff\xfe")),
    ],
)
def test_a_damaged_file_is_refused_and_the_remedy_that_is_named_helps(unfinished, name, damage):
    folder, resume = unfinished
    whole = (folder / "history.csv").read_text()
    damage(folder / name)
    with pytest.raises(InputError, match=rf"{name}.*: remove it, and go on with --resume"):
        resume()
    assert not (folder / "metrics.json").exists()
    (folder / name).unlink()
    assert not resume()
    assert (folder / "history.csv").read_text() == whole


def test_a_state_whose_tensors_are_missing_is_refused(unfinished):
    folder, resume = unfinished
    (folder / "last" / "state.safetensors").unlink()
    with pytest.raises(InputError, match=r"state\.safetensors is missing beside state\.json: put it back, or remove"):
        resume()


def test_a_history_that_a_killed_process_had_not_yet_continued_is_continued(unfinished):
    folder, resume = unfinished
    whole = (folder / "history.csv").read_text()
    (folder / "history.csv").write_text("".join(whole.splitlines(keepends=True)[:2]))
    assert not resume()
    assert (folder / "history.csv").read_text() == whole


def test_a_bundle_that_an_export_is_writing_beside_the_training_is_left_alone(unfinished):
    folder, resume = unfinished
    (folder / ".bundle.1.tmp").mkdir()
    (folder / ".bundle.1.tmp" / ".model.1.tmp").touch()
    assert not resume()
    assert (folder / ".bundle.1.tmp" / ".model.1.tmp").exists()
