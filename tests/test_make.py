"""The Makefile passes a user's values to the commands unchanged, and its defaults are those of the design."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from training.commands.train import parser

ROOT = Path(__file__).parents[1]
ALONE = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "ARGS")}
"""Return the environment without the variables of a make around this test."""
AWKWARD = ["my photos", "it's mine", 'say "hi"', "a$b $(c) `d`", "one; two & (three), #4"]


def make(*arguments: str, has: str = "-m") -> list[list[str]]:
    """Return the Python commands that make would run, as the shell splits them: those with the flag `has`."""
    command = ["make", "-n", "-o", "setup", *arguments]
    printed = subprocess.run(command, cwd=ROOT, env=ALONE, capture_output=True, text=True, check=True).stdout
    lines = printed.replace("\\\n", " ").splitlines()
    return [words for line in lines if has in (words := shlex.split(line))]


def value_of(words: list[str], flag: str) -> str:
    return words[words.index(flag) + 1]


@pytest.mark.parametrize("name", AWKWARD)
def test_data_without_run_names_the_run_after_its_folder(name):
    (words,) = make("train", f"DATA=/some where/{name}/", f"GROUP={name}")
    assert value_of(words, "train") == f"/some where/{name}/"
    assert value_of(words, "--out") == f"runs/{name}"
    assert value_of(words, "--group") == name


def test_a_size_is_stated_only_where_it_was_given_and_for_the_synthetic_data():
    sizes = []
    for given in ((), ("SIZE=96",), ("DATA=photos",), ("DATA=photos", "SIZE=96")):
        (words,) = make("train", *given)
        sizes.append(value_of(words, "--size") if "--size" in words else None)
    assert sizes == ["64", "96", None, "96"]


def test_training_without_data_begins_by_saying_that_the_data_are_synthetic():
    def first_line(*arguments):
        command = ["make", "--no-print-directory", "-n", "-o", "setup", "train", *arguments]
        return subprocess.run(command, cwd=ROOT, env=ALONE, capture_output=True, text=True, check=True).stdout.split(
            "\n"
        )[0]

    assert "no DATA: the embedded synthetic data are trained on" in first_line()
    assert "synthetic" not in first_line("DATA=photos")


@pytest.mark.parametrize("name", AWKWARD)
def test_a_run_is_named_as_written_by_every_target(name):
    targets = ("train", "export", "benchmark", "run", "compare", "benchmark-compare")
    words = make(*targets, f"RUN={name}", f"SOURCE={name}.mp4")
    text = [word for line in words for word in line]
    assert {f"runs/{name}", f"runs/{name}/pack", f"runs/{name}/production", f"runs/{name}/compare"} <= set(text)
    assert f"{name}.mp4" in text
    assert f"RUN={name}" in text


@pytest.mark.parametrize("name", AWKWARD)
def test_the_gpu_check_takes_the_data_as_it_is_named(name):
    (words,) = make("gpu-check", f"DATA={name}", f"ONLY={name}", "EPOCHS=3")
    assert (value_of(words, "--data"), value_of(words, "--only"), value_of(words, "--epochs")) == (name, name, "3")


def test_the_gpu_check_makes_no_environment_where_a_python_is_given():
    command = ["make", "--no-print-directory", "-n", "-B", "gpu-check"]
    ours, given = (
        subprocess.run([*command, *more], cwd=ROOT, env=ALONE, capture_output=True, text=True, check=True).stdout
        for more in ([], ["PY=python3"])
    )
    assert "-m venv" in ours
    assert shlex.split(given.replace("\\\n", " ")) == ["exec", "python3", "-m", "tests.gpu"]


def test_the_recipe_is_edge_unless_told():
    (words,) = make("train")
    assert value_of(words, "--recipe") == "edge"
    assert parser().parse_args(["pack", "--out", "run"]).recipe == "edge"


def test_setup_lets_the_commands_be_started_from_any_folder(tmp_path):
    home, elsewhere = tmp_path / "the home", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (home / "training").mkdir(parents=True)
    (home / "training" / "__main__.py").write_text("print('found')")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home / ".venv"], check=True)
    (words,) = [words for words in make("-B", ".venv/.ready", has="-c") if "rearguard.pth" in words[-1]]
    subprocess.run(words, cwd=home, check=True)
    start = [home / ".venv/bin/python", "-m", "training"]
    done = subprocess.run(start, cwd=elsewhere, capture_output=True, text=True, check=False)
    assert done.stdout == "found\n", done.stderr
