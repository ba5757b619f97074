"""What training left unfinished is exported only when told; a run that patience ended is finished."""

import os
import signal

import pytest

from core.errors import InputError
from export.commands.bundle import main as export
from tests.export.runs import ARCH
from training import step as steps_of
from training.commands.train import main as train

SETTINGS = ["--models", ARCH, "--precision", "fp32", "--memory-format", "channels_last", "--threads", "1"]


@pytest.fixture
def stopped(pack_path, tmp_path, monkeypatch):
    """The arguments of a training that was told to end in its second epoch."""
    arguments = [str(pack_path), "--out", str(tmp_path / "run"), *SETTINGS, "--epochs", "2", "--batch", "32"]
    step, steps = steps_of.train_step, []

    def hearing(*values):
        steps.append(1)
        if len(steps) == 6:  # an epoch has 4
            os.kill(os.getpid(), signal.SIGTERM)
        step(*values)

    with monkeypatch.context() as patch:
        patch.setattr(steps_of, "train_step", hearing)
        assert train(arguments) == 128 + signal.SIGTERM
    return arguments


def test_an_unfinished_training_is_exported_only_when_told(stopped, tmp_path):
    with pytest.raises(InputError, match=r"not finished.*--unfinished"):
        export([str(tmp_path / "run"), "--dry-run"])
    train([*stopped, "--resume"])
    assert export([str(tmp_path / "run"), "--dry-run"]) == 0


def test_unfinished_says_so_and_goes_on(stopped, tmp_path, capsys):
    assert export([str(tmp_path / "run"), "--unfinished", "--dry-run"]) == 0
    assert "not finished" in capsys.readouterr().err


def test_what_patience_ended_is_finished(pack_path, tmp_path):
    still = ["--epochs", "9", "--stop-patience", "1", "--learning-rate", "1e-6", "--batch", "64"]
    train([str(pack_path), "--out", str(tmp_path / "run"), *SETTINGS, *still])
    assert len((tmp_path / "run" / ARCH / "history.csv").read_text().splitlines()) < 9
    assert export([str(tmp_path / "run"), "--dry-run"]) == 0
