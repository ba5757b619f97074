"""The contract of a sink, checked on every one that is found by name. A new sink needs a line in ASK and in WRONG."""

from __future__ import annotations

import importlib
import threading
from dataclasses import FrozenInstanceError, fields, is_dataclass

import numpy as np
import pytest

from core.cli import run_command
from core.geometry.camera_config import CameraConfig
from core.plugins import names_in
from inference import sinks
from inference.commands.run import read_arguments
from inference.frame.decision import Decision, Verdict
from inference.frame.regions import whole_frame
from inference.frame.states import State
from inference.runner.sink_worker import SinkWorker
from inference.sinks import SinkContext, open_sinks
from inference.sources import open_source
from tests.bundles import make_bundle
from tests.inference.sources.videos import noise

ASK = {
    "jsonl": lambda folder: {"out": folder / "run"},
    "overlay": lambda folder: {"out": folder / "run"},
    "recorder": lambda folder: {"record": folder / "recording"},
    "web": lambda folder: {"web": "0"},
}
"""The options that open a sink, which then writes into `folder` alone."""
WRONG = {
    "jsonl": lambda file: {"out": file / "run"},
    "overlay": lambda file: {"out": file / "run"},
    "recorder": lambda file: {"record": file / "recording"},
    "web": lambda file: {"web": "nowhere"},
}
"""Options that cannot be. file: a path below it is none."""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("sinks") / "bundle")


@pytest.fixture(params=names_in(sinks.__path__))
def name(request):
    return request.param


def open_one(name, bundle, options, restarts=0):
    module = importlib.import_module(f"inference.sinks.{name}")
    context = SinkContext(bundle, open_source("synthetic://?frames=1"), CameraConfig(), whole_frame(), (), restarts)
    return module.open_sink(context, module.Options(**options))


@pytest.fixture
def sink(name, bundle, tmp_path):
    opened = open_one(name, bundle, ASK[name](tmp_path))
    yield opened
    opened.close()


def decision(frame_id=0, state=State.OK, fresh=True):
    label = "car" if state is State.OK else None
    verdicts = (Verdict("frame", (0, 0, 40, 30), state, label, "car", 0.9, "car"),) if fresh else ()
    return Decision(frame_id, 10**9 * frame_id, 1.0, 0, state, verdicts, 33.0 * frame_id, reason="why", fresh=fresh)


def write_all(sink, start=0):
    """Write a decision of each state with its picture, one of another size, and one without a frame."""
    for i, state in enumerate(State):
        sink.write(decision(start + i, state), noise(i))
    sink.write(decision(start + 100), noise(1, 72, 128))
    sink.write(decision(start + 100, State.LOST, fresh=False), None)


def files_in(folder):
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_its_options_are_frozen_have_defaults_and_are_options_of_the_command(name):
    kind = importlib.import_module(f"inference.sinks.{name}").Options
    assert is_dataclass(kind)
    options, given = kind(), vars(read_arguments(["bundle", "--source", "0"]))
    for item in fields(kind):
        assert given[item.name] == getattr(options, item.name), "the command has another default"
        with pytest.raises(FrozenInstanceError):
            setattr(options, item.name, None)


def test_without_being_asked_for_it_is_not_there(name, bundle):
    assert open_one(name, bundle, {}) is None


def test_it_is_opened_by_its_options_among_those_of_all(name, bundle, tmp_path):
    context = SinkContext(bundle, open_source("synthetic://?frames=1"), CameraConfig(), whole_frame(), ())
    given = vars(read_arguments(["bundle", "--source", "0", "--no-overlay"])) | ASK[name](tmp_path)
    opened = open_sinks(context, given | {"no_overlay": name != "overlay"})
    for sink in opened:
        sink.close()
    assert name in {type(sink).__module__.removeprefix("inference.sinks.") for sink in opened}


def test_it_takes_every_decision_with_and_without_a_picture(sink):
    write_all(sink)


def test_closed_twice_is_closed_once_and_leaves_nothing_half_written(sink, tmp_path):
    write_all(sink)
    sink.close()
    files = files_in(tmp_path)
    sink.close()
    assert files_in(tmp_path) == files
    assert not [file for file in files if file.name.startswith(".")]


def test_closed_without_a_decision(sink, tmp_path):
    sink.close()
    assert not [file for file in files_in(tmp_path) if file.name.startswith(".")]


def test_after_a_restart_what_was_written_stays(name, bundle, tmp_path):
    for restarts in range(2):
        before = files_in(tmp_path)
        opened = open_one(name, bundle, ASK[name](tmp_path), restarts)
        write_all(opened, 1000 * restarts)
        opened.close()
        after = files_in(tmp_path)
        for file, data in before.items():
            assert after[file].startswith(data), file


def test_options_that_cannot_be_are_one_sentence_and_exit_code_2(name, bundle, tmp_path, capsys, monkeypatch):
    file = tmp_path / "file"
    file.touch()
    options = WRONG[name](file)
    monkeypatch.setattr("sys.argv", ["inference", *map(str, options.values())])
    assert run_command(lambda: open_one(name, bundle, options)) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert ": " in error.removeprefix("error: ")
    assert len(error.splitlines()) <= 3


def test_its_backlog_is_bounded_and_nothing_is_lost_uncounted(sink, monkeypatch):
    release, taken = threading.Event(), []
    monkeypatch.setattr(sink, "write", lambda decision, frame_bgr: (release.wait(30), taken.append(frame_bgr)))
    monkeypatch.setattr(sink, "wants_picture", lambda: sink.needs_picture)
    worker, count = SinkWorker(sink, waits=False), sink.queue_size + 50
    for i in range(count):
        worker.submit(decision(i), noise(0, 8, 8))
    assert worker.dropped >= 49
    release.set()
    worker.close()
    assert worker.written + worker.dropped == count
    assert len({id(frame) for frame in taken if frame is not None}) <= (sink.max_pictures or sink.queue_size)


def test_what_it_does_with_a_picture_does_not_reach_the_runners_own(sink):
    worker, picture = SinkWorker(sink, waits=True), noise(0)
    kept = picture.copy()
    worker.submit(decision(), picture)
    worker.close()
    assert worker.error is None
    assert np.array_equal(picture, kept)
