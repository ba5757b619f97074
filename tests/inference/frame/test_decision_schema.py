"""decision.schema.json says what a line of decisions.jsonl is: real lines are valid, and say all that it names."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
from jsonschema import Draft202012Validator

import inference.frame.decision as decision_module
from inference.capture.base import SourceLost
from inference.commands.run import read_arguments
from inference.commands.run import run_from_args as command
from inference.frame.states import State
from tests.bundles import make_bundle
from tests.inference.fake_camera import drive, good, raising
from tests.inference.sources.videos import write_images

SCHEMA = json.loads((Path(decision_module.__file__).parent / "decision.schema.json").read_text())
VALID = Draft202012Validator(SCHEMA)


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    """Lines of a synthetic drive, of a folder, of boxes, and of a camera that fails in several ways."""
    folder = tmp_path_factory.mktemp("lines")
    bundle = make_bundle(folder / "b", background=None)
    images = write_images(folder / "images")
    (folder / "boxes.jsonl").write_text('{"file": "car/1.png", "boxes": [{"rect": [2, 3, 30, 40]}]}\n')
    drives = [["synthetic://?frames=8&width=160&height=90"], [images], [images, "--boxes", folder / "boxes.jsonl"]]
    found = []
    for i, (source, *more) in enumerate(drives):
        out = folder / str(i)
        arguments = [bundle.path, "--no-overlay", "--out", out, "--source", source, *more]
        command(read_arguments([str(a) for a in arguments]))
        found += [json.loads(line) for line in (out / "decisions.jsonl").open()]
    black = [np.zeros((180, 320, 3), np.uint8)] * 4
    done = drive(folder / "f", [*good(3), *black, raising(SourceLost("unplugged")), *good(2, 5)])
    return found + [json.loads(json.dumps(d.as_json())) for d in done.decisions]


def test_the_schema_is_one():
    Draft202012Validator.check_schema(SCHEMA)


def test_every_line_of_a_real_run_is_valid(lines):
    assert len(lines) > 20
    for line in lines:
        VALID.validate(line)


def test_whatever_the_schema_names_a_real_run_says(lines):
    assert {key for line in lines for key in line} == set(SCHEMA["properties"])
    assert {key for line in lines for zone in line["zones"].values() for key in zone} == set(
        SCHEMA["$defs"]["zone"]["properties"]
    )
    assert SCHEMA["$defs"]["state"]["enum"] == [state.value for state in State]


def test_every_line_says_which_frame_how_old_it_was_and_what_was_lost(lines):
    assert {"frame", "captured_ns", "age_ms", "age_basis", "drops"} <= set(SCHEMA["required"])
    for key in SCHEMA["required"]:
        assert not VALID.is_valid({k: v for k, v in lines[0].items() if k != key})


def test_every_line_says_what_its_age_counts_from(lines):
    """The synthetic camera makes its frames as they are read; when another's was taken, nobody knows."""
    drawn = lines[:8]
    read = [line for line in lines if "file" in line]
    assert {line["age_basis"] for line in drawn} == {"capture"}
    assert {line["age_basis"] for line in read} == {"arrival"}


def test_a_class_outside_ok_is_not_valid(lines):
    line = copy.deepcopy(next(line for line in lines if line["state"] == "BLIND"))
    zone = next(iter(line["zones"].values()))
    zone["label"] = "car"
    assert not VALID.is_valid(line)


@pytest.mark.parametrize("change", [{"more": 1}, {"state": "FINE"}, {"drops": -1}, {"fresh": True}, {"frame": 1.5}])
def test_a_line_that_is_not_ours_is_not_valid(lines, change):
    assert VALID.is_valid(lines[0])
    assert not VALID.is_valid({**lines[0], **change})
