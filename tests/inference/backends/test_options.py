"""`--backend-option`: told in the help and in the documentation, refused by name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from core.errors import InputError
from inference.backends import option_help
from inference.commands import build, run, verify
from tests.bundles import make_bundle

PAGE = Path(__file__).parents[3] / "docs" / "backends.md"


def test_the_documentation_holds_the_options_of_the_code():
    blocks = re.findall(r"```text\n(.*?)\n```", PAGE.read_text(encoding="utf-8"), re.S)
    assert blocks == [option_help(), option_help("BuildOptions")]


@pytest.mark.parametrize(("command", "attribute"), [(run, "Options"), (build, "BuildOptions")])
def test_the_help_holds_them_too(command, attribute, capsys):
    read = run.read_arguments if command is run else command.main
    with pytest.raises(SystemExit):
        read(["--help"])
    assert option_help(attribute) in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "option", "said"),
    [
        (run.main, "level=3", "the backend ort has no option 'level': choose from threads"),
        (run.main, "threads=two", "the backend ort: the option threads is 'two', give a whole number"),
        (run.main, "threads=0", "threads is 0: give a whole number from 1 to 1024"),
        (run.main, "threads=99999999999999999999", "give a whole number from 1 to 1024"),
        (verify.main, "threads=0", "threads is 0: give a whole number from 1 to 1024"),
        (verify.main, "level=3", "no backend has an option 'level': choose from openvino: threads; ort: threads"),
        (build.main, "colour=1", "a build for trt has no option 'colour': choose from batches, tf32, level, workspace"),
        (build.main, "level=6", "level is 6: give 0 to 5"),
    ],
)
def test_a_wrong_one_is_refused_with_those_there_are(command, option, said, tmp_path):
    bundle = str(make_bundle(tmp_path / "bundle").path)
    source = ["--source", "synthetic://?frames=1", "--backend", "ort"] if command is run.main else []
    with pytest.raises(InputError, match=re.escape(said)):
        command([bundle, *source, "--backend-option", option])


@pytest.mark.parametrize(("more", "threads"), [([], 3), (["--backend-option", "threads=2"], 2)])
def test_an_option_goes_before_the_flag_that_stands_for_it(tmp_path, capsys, more, threads):
    bundle = str(make_bundle(tmp_path / "bundle").path)
    run.main([bundle, "--source", "synthetic://?frames=1", "--backend", "ort", "--threads", "3", *more])
    assert f"on ort x{threads}" in capsys.readouterr().out


def test_verify_gives_an_option_to_the_backends_that_have_it(tmp_path, capsys):
    bundle = str(make_bundle(tmp_path / "bundle").path)
    assert verify.main([bundle, "--backends", "null", "ort", "--backend-option", "threads=1"]) == 0
    assert "ort fp32: max |dprob|" in capsys.readouterr().out


@pytest.mark.parametrize("threads", ["0", "-1", "1025", "99999999999999999999"])
@pytest.mark.parametrize("command", [run.main, verify.main])
def test_a_number_of_threads_that_no_machine_has_is_refused(tmp_path, command, threads):
    bundle = str(make_bundle(tmp_path / "bundle").path)
    source = ["--source", "synthetic://?frames=1"] if command is run.main else []
    with pytest.raises(InputError, match=f"threads is {threads}: give a whole number from 1 to 1024"):
        command([bundle, *source, "--threads", threads])
