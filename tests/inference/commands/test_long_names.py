"""A file name that is too long is one sentence, in a flag and in a file."""

from __future__ import annotations

import json

import pytest

from core.cli import run_command
from inference.commands.run import main
from tests.bundles import make_bundle


@pytest.mark.parametrize("flag", ["--camera", "--detector", "--boxes", "--smoothing", "--out", "--record", "--source"])
def test_a_file_name_that_is_too_long_is_one_sentence(tmp_path, monkeypatch, capsys, flag):
    arguments = [str(make_bundle(tmp_path / "b").path), "--source", "synthetic://?frames=1", flag, "n" * 5000]
    monkeypatch.setattr("sys.argv", ["inference", "run", *arguments])
    assert run_command(lambda: main(arguments)) == 2
    assert_one_sentence(capsys)


def test_a_detector_in_camera_json_whose_file_name_is_too_long_is_one_sentence(tmp_path, monkeypatch, capsys):
    (tmp_path / "camera.json").write_text(json.dumps({"regions": {"detector": "n" * 4000}}))
    arguments = [str(make_bundle(tmp_path / "b").path), "--source", "synthetic://?frames=1"]
    arguments += ["--camera", str(tmp_path / "camera.json")]
    monkeypatch.setattr("sys.argv", ["inference", "run", *arguments])
    assert run_command(lambda: main(arguments)) == 2
    assert_one_sentence(capsys)


def assert_one_sentence(capsys):
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert [len(line) < 6000 for line in said.splitlines() if line.startswith("error: ")] == [True]
