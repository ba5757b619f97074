"""What a precision buys is said from an interval, and everyone takes the same turns."""

from __future__ import annotations

import json
from time import sleep

import numpy as np
import pytest

from export.commands import speed as command
from export.speed import interval, say, take_turns
from inference.backends import open_backend
from inference.errors import InputError
from tests.bundles import make_bundle
from tests.export import runs


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.3, 0.4, "takes 40% of fp32's time or less"),
        (0.97, 1.02, "equals fp32 on ort here: it buys nothing"),
        (0.97, 1.08, "int8 buys nothing"),
        (1.1, 1.3, "is slower"),
        (0.8, 1.02, "is not shown to be faster"),
    ],
)
def test_the_verdict_follows_the_interval(low, high, said):
    assert said in say("int8", "ort", low, high)


def test_the_interval_holds_the_ratio_and_pairs_the_rounds():
    drift = np.linspace(1, 3, 50)  # the machine slows down threefold: both files feel it
    low, high = interval(drift * 0.5, drift)
    assert low == pytest.approx(0.5)
    assert high == pytest.approx(0.5)


def test_every_file_takes_every_round(tmp_path):
    bundle = make_bundle(tmp_path / "bundle")
    opened = [open_backend(name, bundle, "fp32", threads=1) for name in ("null", "ort")]
    turns = take_turns(opened, 4)
    assert turns.shape == (2, 4)
    assert (turns > 0).all()


def test_the_cpu_clock_does_not_count_what_others_took(tmp_path, monkeypatch):
    bundle = make_bundle(tmp_path / "bundle")
    opened = [open_backend("null", bundle, "fp32")]
    monkeypatch.setattr(opened[0], "infer", lambda n: sleep(0.02))
    assert take_turns(opened, 1, clock="wall")[0, 0] >= 20
    assert take_turns(opened, 1, clock="cpu")[0, 0] < 10


def test_the_command_times_each_backend_against_its_own_fp32(tmp_path, capsys):
    run = tmp_path / "runs" / "tiny"
    runs.write_pack(tmp_path / "pack", rows=12)
    runs.write_run(run, tmp_path / "pack", [])
    make_bundle(run / "tiny" / "bundle")
    assert command.main([str(run), "--backends", "ort", "--rounds", "3", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["backend"], row["precision"]) for row in rows] == [("ort", "fp32"), ("ort", "int8")]
    assert rows[0]["ratio"] == 1
    with pytest.raises(InputError, match="--size 224"):
        command.main([str(run), "--size", "224"])
