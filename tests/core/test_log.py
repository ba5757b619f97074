"""The log: levels, streams, secrets, times."""

from __future__ import annotations

import importlib
import json
import logging
import os
import pkgutil
import re
import sys
from threading import Event, Thread

import pytest

from core.cli import Parser, run_command
from core.errors import InputError
from core.log import HANDLER
from inference.commands.run import main
from tests.bundles import make_bundle

log = logging.getLogger("inference.runner.session")
TIMED = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}  ")
LEVELS = {"debug": "a detail", "info": "news", "warning": "warning: odd", "error": "bad", "critical": "error: the end"}


def say_all(*flags, times=False):
    Parser("x", times=times).parse_args(list(flags))
    for level, sentence in LEVELS.items():
        getattr(log, level)(sentence.removeprefix("warning: "))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("log") / "bundle").path


def drive(bundle, frames, *flags):
    main([str(bundle), "--source", "synthetic://?fps=30", "--frames", str(frames), *flags])


@pytest.mark.parametrize(("flags", "first"), [(["-v"], 0), (["--verbose"], 0), ([], 1), (["--quiet"], 3)])
def test_the_flags_choose_the_levels(flags, first, capsys):
    say_all(*flags)
    assert tuple(capsys.readouterr()) == ("", "\n".join([*LEVELS.values()][first:]) + "\n")


def test_loud_and_quiet_at_once_is_refused():
    with pytest.raises(InputError, match="not allowed with"):
        say_all("-v", "--quiet")


def test_the_last_sentence_alone_has_no_time(capsys):
    say_all("-v", times=True)
    lines = capsys.readouterr().err.splitlines()
    assert [TIMED.sub("", line) for line in lines] == [*LEVELS.values()]
    assert [bool(TIMED.match(line)) for line in lines] == [True, True, True, True, False]


def test_no_record_holds_a_secret_nor_does_its_traceback(capsys):
    address = "rtsp://gardener:S3cret@cam.local/live?token=T0ken"
    log.warning(f"{address} is away", exc_info=ValueError(address))
    err = capsys.readouterr().err
    assert "warning: rtsp://cam.local/... is away" in err
    assert "ValueError: rtsp://cam.local/..." in err
    assert re.findall("gardener|S3cret|T0ken", err) == []


@pytest.mark.parametrize("library", ["waitress.queue", "matplotlib.font_manager", "timm"])
def test_libraries_are_quiet_even_when_we_are_not(library, capsys):
    say_all("-v")
    capsys.readouterr()
    logging.getLogger(library).warning("noise")
    assert capsys.readouterr().err == ""


def test_details_say_where_an_error_arose(capsys):
    def fail():
        Parser("x").parse_args(["-v"])
        raise InputError("x is wrong")

    assert run_command(fail) == 2
    sentence, *trace = capsys.readouterr().err.splitlines()
    assert sentence == "error: x is wrong"
    assert "Traceback (most recent call last):" in trace


@pytest.mark.parametrize("package", ["inference", "training", "export", "benchmarks", "benchmarks.studies"])
def test_every_command_takes_the_flags(package, capsys):
    folder = importlib.import_module(f"{package}.commands")
    for name in [module.name for module in pkgutil.iter_modules(folder.__path__)]:
        with pytest.raises(SystemExit):
            importlib.import_module(f"{package}.commands.{name}").main(["--help"])
        assert {"-v", "--verbose", "--quiet"} <= set(re.findall(r"-[\w-]+", capsys.readouterr().out)), name


def test_stdout_is_the_result_alone_and_the_runner_says_when(bundle, capsys):
    drive(bundle, 2, "--json", "-v")
    out, err = capsys.readouterr()
    assert json.loads(out)["frames"] == 2
    assert re.search(TIMED.pattern + "running synthetic", err)
    assert all(TIMED.match(line) for line in err.splitlines())


def test_a_quiet_drive_that_is_well_says_nothing(bundle, capsys):
    drive(bundle, 2, "--json", "--quiet")
    assert capsys.readouterr().err == ""


def test_no_frame_leaves_a_record(bundle, caplog):
    counts = []
    for frames in (2, 20):
        caplog.clear()
        drive(bundle, frames, "--json", "-v")
        counts.append(len(caplog.records))
    assert counts[0] == counts[1] > 0


@pytest.mark.parametrize("broken", ["missing", "closed", "full"])
def test_a_broken_stderr_stops_nothing(broken, monkeypatch):
    with open("/dev/full", "w", buffering=1) as stream:
        if broken == "closed":
            stream.close()
        monkeypatch.setattr(sys, "stderr", None if broken == "missing" else stream)
        log.error("nobody hears this")
        monkeypatch.undo()
        if broken == "full":
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def test_a_child_logs_though_a_thread_was_logging_at_the_fork():
    held, done = Event(), Event()

    def hold():
        with HANDLER.lock:
            held.set()
            done.wait()

    thread = Thread(target=hold)
    thread.start()
    held.wait()
    if (child := os.fork()) == 0:
        Thread(target=lambda: (Event().wait(60), os._exit(1)), daemon=True).start()
        log.error("the child is here")
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    done.set()
    thread.join()
    assert status == 0
