"""The command line of every package: help, nearest names, exit codes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from core.cli import Parser, run_command
from core.errors import CheckError, DeviceError, InputError

ROOT = Path(__file__).parents[1]
PACKAGES = ("inference", "training", "export", "benchmarks")


def call(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("package", PACKAGES)
def test_help_lists_the_commands(package):
    done = call(package, "--help")
    assert done.returncode == 0
    assert f"python -m {package}" in done.stdout
    names = {path.stem.replace("_", "-") for path in (ROOT / package / "commands").glob("[a-z]*.py")} - {
        "bundle",
        "measure",
    }
    assert names <= set(done.stdout.replace(",", " ").split())


@pytest.mark.parametrize("package", ["export", "benchmarks"])
def test_without_arguments_the_commands_and_the_form_without_a_command_are_shown(package):
    done = call(package)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"python -m {package} runs/NAME" in done.stdout
    names = {path.stem.replace("_", "-") for path in (ROOT / package / "commands").glob("[a-z]*.py")}
    assert names == {line.split()[0] for line in done.stdout.split("\n\n")[1].splitlines()}


@pytest.mark.parametrize(
    ("package", "typo", "meant"), [("inference", "vrify", "verify"), ("training", "trian", "train")]
)
def test_a_mistyped_command_is_answered_with_the_nearest(package, typo, meant):
    done = call(package, typo)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert meant in done.stderr


@pytest.mark.parametrize(
    ("package", "commands"), [("export", "add-detector, package"), ("benchmarks", "frames, gate, merge")]
)
def test_a_word_that_is_no_command_and_no_folder_is_answered_with_the_commands(package, commands):
    done = call(package, "nosuch")
    assert (done.returncode, done.stdout) == (2, "")
    assert f"a command ({commands})" in done.stderr


@pytest.mark.parametrize("package", ["export", "benchmarks"])
def test_a_run_that_does_not_exist_is_one_sentence(package):
    done = call(package, "runs/no_such_run_here")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") <= 3
    assert "no_such_run_here" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("error", "code"), [(InputError("x"), 2), (CheckError("x"), 1), (DeviceError("x"), 1), (KeyboardInterrupt(), 130)]
)
def test_each_kind_of_failure_has_its_exit_code(error, code):
    def fail() -> int:
        raise error

    assert run_command(fail) == code


@pytest.mark.parametrize(
    "typed", [["--webtoken", "SECRET"], ["--webtoken=SECRET"], ["--webtoken", "SEC RET"], ["--web-=SECRET"]]
)
def test_the_value_of_an_option_that_is_not_known_is_not_repeated(typed):
    parser = Parser(prog="x")
    parser.add_argument("--web-token")
    parser.add_argument("--web-port")
    with pytest.raises(InputError, match="--web") as caught:
        parser.parse_args(typed)
    assert not {"SEC", "RET"} & set(re.findall("SEC|RET", str(caught.value)))


def test_an_empty_path_is_not_the_folder_where_one_stands():
    parser = Parser(prog="x")
    parser.add_argument("--out", type=Path)
    with pytest.raises(InputError, match="--out: it is empty"):
        parser.parse_args(["--out", ""])
    assert parser.parse_args(["--out", "a b"]).out == Path("a b")


def test_an_empty_text_is_not_an_option_that_is_not_given():
    parser = Parser(prog="x")
    parser.add_argument("--frames")
    parser.add_argument("--models", nargs="+")
    for typed in (["--frames", ""], ["--frames="], ["--models", "a", ""]):
        with pytest.raises(InputError, match=f"{typed[0].rstrip('=')}: it is empty"):
            parser.parse_args(typed)
    assert parser.parse_args([]).frames is None


def test_no_file_gets_the_number_of_a_closed_stderr():
    script = "import os; from core.cli import run_command; os.close(2); os._exit(run_command(lambda: os.open('/', 0)))"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode > 2


def test_a_full_disk_under_stdout_is_one_sentence():
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "inference", "doctor", "--json"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "error: the disk that the output goes to is full: make room there\n"
