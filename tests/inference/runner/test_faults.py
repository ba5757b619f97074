"""The fault matrix: what goes wrong with the camera, the network, a sink, the disk; and the state that must be said."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from core.cli import run_command
from core.errors import CheckError, DeviceError, InputError
from inference import cuda_device
from inference.backends import open_backend
from inference.backends.null import NullBackend
from inference.capture import reader as capture
from inference.capture.base import SourceLost
from inference.capture.reader import CaptureReader
from inference.commands.run import main, read_arguments, run_worker
from inference.frame.states import State
from inference.proof.self_test import run_self_test
from inference.runner import session
from inference.runner.heartbeats import RunnerProcess
from inference.runner.sink_worker import SinkWorker
from inference.runner.supervisor import Supervisor, SupervisorLimits
from inference.sinks import Sink
from inference.sinks.jsonl import JsonlSink
from inference.sinks.overlay import OverlaySink
from tests.bundles import make_bundle
from tests.inference.fake_camera import (
    FPS,
    TIGHT,
    TIMEOUTS,
    Awaited,
    Kept,
    drive,
    good,
    picture,
    raising,
    sleeping,
)
from tests.inference.sinks.pages import opened
from tests.waiting import LONGEST_S, has_grown_to, wait_until

ROOT = Path(__file__).parents[3]


def no_class_outside_ok(done):
    for decision in done.decisions:
        for verdict in decision.verdicts:
            assert verdict.label is None or verdict.state is State.OK


def test_a_good_camera_is_ok_from_the_first_frame_to_the_last(tmp_path):
    done = drive(tmp_path, good(8))
    assert (done.error, done.states) == (None, ["OK"])


def test_a_disconnected_camera_is_lost_and_opened_again_and_ids_go_on(tmp_path):
    done = drive(tmp_path, [*good(4), raising(SourceLost("unplugged")), *good(4, 10)])
    assert (done.error, done.states, done.camera.opened) == (None, ["OK", "LOST", "OK"], 2)
    assert "unplugged" in done.events[1]["reason"]
    ids = [d.frame_id for d in done.decisions if d.fresh]
    assert ids == sorted(set(ids))
    no_class_outside_ok(done)


def test_a_driver_that_raises_anything_is_a_lost_camera(tmp_path):
    done = drive(tmp_path, [*good(3), raising(RuntimeError("ioctl")), *good(3, 10)])
    assert (done.error, done.states) == (None, ["OK", "LOST", "OK"])


def test_a_camera_that_stays_away_is_failed_and_the_command_ends(tmp_path):
    done = drive(tmp_path, [*good(3), *[raising(SourceLost("gone"))] * 1000], timeouts=replace(TIMEOUTS, failed_s=0.6))
    assert isinstance(done.error, DeviceError)
    assert done.states == ["OK", "LOST", "FAILED"]
    assert done.decisions[-1].state is State.FAILED
    assert 2 <= done.camera.opened < 30  # it backs off


def test_a_stall_is_stale_and_says_no_class(tmp_path):
    stale = Awaited(State.STALE)
    done = drive(tmp_path, [*good(5), stale.picture, *good(3, 10)], timeouts=TIGHT, sinks=[stale])
    assert (done.error, done.camera.opened) == (None, 1)
    assert "STALE" in done.states
    stale = next(d for d in done.decisions if d.state is State.STALE)
    assert (stale.verdicts, stale.fresh) == ((), False)
    assert "no frame for" in stale.reason


def test_a_driver_that_hangs_is_lost_and_opened_again(tmp_path):
    """A busy machine may be STALE or LOST another time as well."""
    lost = Awaited(State.LOST)
    done = drive(tmp_path, [*good(4), lost.picture, *good(8, 10)], timeouts=replace(TIGHT, hung_s=0.5), sinks=[lost])
    at = done.states.index("LOST")
    assert (done.error, done.camera.opened) == (None, 1 + done.states.count("LOST"))
    assert "OK" in done.states[at:]
    assert re.search(r"no frame for \d+\.\d s", next(e["reason"] for e in done.events if e["to"] == "LOST"))


@pytest.mark.parametrize("every", [2, 3])
def test_a_camera_slower_than_it_says_is_not_taken_for_a_stalled_one_for_long(tmp_path, every):
    done = drive(
        tmp_path, [*good(3), *[sleeping((every - 1) / FPS, picture(i)) for i in range(20, 34)]], timeouts=TIGHT
    )
    assert done.error is None
    assert done.timeouts_s[0] == 2 / FPS
    assert min(done.timeouts_s[-6:]) > 1.2 * every / FPS  # nothing is said before that


def test_a_frozen_picture_is_stale_until_it_moves(tmp_path):
    done = drive(tmp_path, [*good(3), *[picture(3)] * 16, *good(3, 10)])
    assert (done.error, done.states) == (None, ["OK", "STALE", "OK"])
    assert done.events[1]["reason"] == "the picture is frozen"
    no_class_outside_ok(done)


def test_a_picture_given_twice_is_not_frozen(tmp_path):
    assert drive(tmp_path, [p for p in good(6) for _ in range(2)]).states == ["OK"]


@pytest.mark.parametrize("level", [0, 255])
def test_a_black_or_white_camera_is_blind_and_sees_again(tmp_path, level):
    done = drive(tmp_path, [*good(3), *[np.full((180, 320, 3), level, np.uint8)] * 8, *good(3, 10)])
    assert (done.error, done.states) == (None, ["OK", "BLIND", "OK"])
    no_class_outside_ok(done)


def test_a_covered_lens_is_blind(tmp_path):
    random = np.random.default_rng(0)
    covered = [random.normal(80, 6, (180, 320, 3)).clip(0, 255).astype(np.uint8) for _ in range(4)]
    assert drive(tmp_path, [*good(3), *covered, *good(3, 10)]).states == ["OK", "BLIND", "OK"]


def test_grey_frames_are_seen(tmp_path):
    grey = [cv2.cvtColor(cv2.cvtColor(p, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR) for p in good(4)]
    assert drive(tmp_path, grey).states == ["OK"]


def test_a_change_of_resolution_moves_the_zones_and_nothing_else(tmp_path):
    small = cv2.resize(picture(1), (200, 160))
    done = drive(tmp_path, [*good(3), small, *good(2, 10)])
    assert (done.error, done.states) == (None, ["OK"])
    assert (0, 0, 200, 160) in [d.verdicts[0].rect for d in done.decisions]


def test_time_that_jumps_backwards_breaks_nothing(tmp_path):
    stamps = iter([10**9, 2 * 10**9, 5 * 10**8, 6 * 10**8, 7 * 10**8])
    done = drive(tmp_path, good(5), clock=lambda: next(stamps))
    assert (done.error, done.states, done.summary["frames"]) == (None, ["OK"], 5)


class Panic(BaseException):
    """As of a runtime written in Rust, whose panics are no Exception."""


class OwnError(Exception):
    """An error of a plug-in."""


def cuda_error():
    return cuda_device.call("cudaStreamSynchronize", 0)


def unbound(bundle):
    """Return onnxruntime's own error: the session is run without its input."""
    backend = open_backend("ort", bundle, "fp32")
    backend._bindings[1] = backend._session.io_binding()
    return backend


def misshapen(bundle):
    """Return OpenVINO's own error: the input is of another size than the model's."""
    backend = open_backend("openvino", bundle, "fp32")
    request = backend._requests[1]
    backend._requests[1] = SimpleNamespace(infer=lambda **_: request.infer([np.zeros((1, 7, 7, 3), np.uint8)]))
    return backend


def failing(error):
    """Return a backend whose third frame raises what `error` is or raises."""

    def make(bundle):
        backend, honest = NullBackend(bundle, "fp32", 1), NullBackend.infer
        left = iter(range(2))

        def infer(n):
            if next(left, None) is None:
                raise error if isinstance(error, BaseException) else error()
            return honest(backend, n)

        backend.infer = infer
        return backend

    return make


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (failing(RuntimeError("CUDA error 700\nat line 1")), "RuntimeError: CUDA error 700 at line 1"),
        (failing(InputError("net.engine failed to run: build it again")), "net.engine failed to run"),
        (failing(CheckError("a check")), "a check"),
        (failing(OwnError()), "OwnError"),
        (failing(Panic("a panic of Rust")), "Panic: a panic of Rust"),
        (failing(SystemExit(0)), "SystemExit"),
        (failing(cuda_error), "cudaStreamSynchronize failed (700)"),
        (unbound, "onnxruntime failed (RuntimeError: "),
        (misshapen, "openvino failed (RuntimeError: "),
    ],
)
def test_a_network_that_raises_anything_has_failed_and_everyone_hears_it(tmp_path, broken, said, monkeypatch):
    monkeypatch.setattr(cuda_device, "runtime", lambda: SimpleNamespace(cudaStreamSynchronize=lambda stream: (700,)))
    journal, page = JsonlSink(tmp_path / "decisions.jsonl"), opened()
    done = drive(tmp_path, good(3), backend=broken(make_bundle(tmp_path / "b")), sinks=[journal, page])
    assert isinstance(done.error, DeviceError)
    assert said in str(done.error)
    assert "\n" not in str(done.error)
    assert (done.decisions[-1].state, done.decisions[-1].verdicts) == (State.FAILED, ())
    last = json.loads((tmp_path / "decisions.jsonl").read_text().splitlines()[-1])
    shown = json.loads(page.status.as_json())
    assert (last["state"], shown["state"]) == ("FAILED", "FAILED")
    assert said in last["reason"]
    assert said in shown["reason"]


def test_a_device_that_cannot_even_be_closed_keeps_its_own_error_and_the_files_are_whole(tmp_path, monkeypatch, capsys):
    """A CUDA context with an error refuses every further call, those that free it among them."""
    code, beats = run_once(tmp_path, monkeypatch, InputError("illegal memory access: look at the card"))
    errors = capsys.readouterr().err
    assert code == 1
    assert errors.splitlines()[-1] == "failed: illegal memory access: look at the card"
    assert "Traceback" not in errors
    last = json.loads((tmp_path / "out" / "decisions.jsonl").read_text().splitlines()[-1])
    assert (last["state"], last["zones"], last["fresh"]) == ("FAILED", {}, False)
    told, supervisor = [], Supervisor(lambda worker: 0, SupervisorLimits())
    supervisor._systemd = SimpleNamespace(notify=told.append)
    supervisor._receive(beats)  # all at once: the end follows the failure within microseconds
    assert [line for word in told for line in word.splitlines() if "STATUS" in line][-1] == "STATUS=FAILED"


def run_once(folder, monkeypatch, error):
    """Run the command on a backend that raises `error` from its third call on; return the exit code and its beats."""
    calls = iter(range(2))
    honest = NullBackend.infer

    def infer(self, n):
        if next(calls, None) is None:
            raise error
        return honest(self, n)

    def close(self):
        raise RuntimeError("still 700")

    monkeypatch.setattr(NullBackend, "infer", infer)
    monkeypatch.setattr(NullBackend, "close", close)
    bundle = make_bundle(folder / "b")
    source = "synthetic://?frames=5&width=160&height=90"
    arguments = [str(bundle.path), "--source", source, "--backend", "null", "--no-overlay", "--out"]
    readable, writable = os.pipe()
    code = run_command(
        lambda: run_worker(read_arguments([*arguments, str(folder / "out")]), RunnerProcess(pipe=writable))
    )
    os.close(writable)
    with open(readable, "rb") as beats:
        return code, beats.read()


def test_a_network_that_raises_in_the_self_test_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(NullBackend, "infer", lambda self, n: 1 / 0)
    bundle = make_bundle(tmp_path / "b")
    with pytest.raises(DeviceError, match=r"the network failed \(ZeroDivisionError"):
        run_self_test(bundle, "null", open_backend("null", bundle, "fp32"), "fp32")


def test_what_the_camera_has_is_said_before_that_the_model_is_unproved(tmp_path):
    black = [np.zeros((180, 320, 3), np.uint8)] * 4
    script = [*good(3), *black, *[picture(3)] * 16, *good(3, 10), raising(SourceLost("unplugged")), *good(3, 20)]
    done = drive(tmp_path, script, background=None)
    assert done.error is None
    assert done.states == ["UNPROVED", "BLIND", "UNPROVED", "STALE", "UNPROVED", "LOST", "UNPROVED"]
    assert {verdict.label for decision in done.decisions for verdict in decision.verdicts} == {None}


def test_a_blocked_sink_delays_no_decision(tmp_path):
    took, release = threading.Event(), threading.Event()

    class Blocked(Kept):
        name, queue_size = "blocked", 2

        def write(self, decision, frame_bgr):
            took.set()
            release.wait(LONGEST_S)

    def once_it_blocks():
        assert took.wait(LONGEST_S)
        return picture(1)

    done = drive(tmp_path, [picture(0), once_it_blocks, *good(8, 2)], sinks=[Blocked()], close_s=0.5)
    release.set()
    assert len(done.decisions) == done.summary["frames"] == 10
    assert done.summary["sinks"]["blocked"] == {"written": 0, "dropped": 7, "error": "it hangs"}


def test_a_sink_of_a_recorded_source_that_hangs_is_given_up(monkeypatch):
    monkeypatch.setattr("inference.runner.sink_worker.HANGS_S", 0.05)
    release = threading.Event()

    class Blocked(Sink):
        name, queue_size = "blocked", 1

        def write(self, decision, frame_bgr):
            release.wait(LONGEST_S)

        def close(self):
            pass

    worker = SinkWorker(Blocked(), waits=True)
    for _ in range(5):
        worker.submit(None, None)
    release.set()
    assert "took nothing" in worker.error
    assert worker.dropped >= 2


def test_misses_do_not_eat_the_pool_of_pictures():
    release = threading.Event()

    class Slow(Sink):
        name, queue_size, needs_picture = "slow", 2, True

        def write(self, decision, frame_bgr):
            release.wait(LONGEST_S)

        def close(self):
            pass

    worker = SinkWorker(Slow(), waits=False)
    for image in (None, None, None, picture(0), picture(1), picture(2)):
        worker.submit(None, image)
    release.set()
    worker.close(LONGEST_S)
    assert worker._spare.qsize() == 2


def test_a_full_disk_turns_its_sink_off_and_the_decisions_go_on(tmp_path, capsys):
    (tmp_path / "full").symlink_to("/dev/full")
    done = drive(tmp_path, good(5), sinks=[JsonlSink(tmp_path / "full")])
    assert (done.error, done.states, len(done.decisions)) == (None, ["OK"], done.summary["frames"])
    assert "No space left" in done.summary["sinks"]["decisions.jsonl"]["error"]
    assert "is off" in capsys.readouterr().err


def test_a_full_disk_under_the_summary_is_one_sentence(tmp_path, monkeypatch, capsys):
    from core import files
    from inference.commands.run import main

    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    bundle = make_bundle(tmp_path / "b")
    monkeypatch.setattr(files, "fsync_path", full)
    arguments = [
        str(bundle.path),
        "--source",
        "synthetic://?frames=2&width=160&height=90",
        "--out",
        str(tmp_path / "out"),
    ]
    monkeypatch.setattr("sys.argv", ["inference", *arguments])
    assert run_command(lambda: main([*arguments, "--no-overlay"])) == 2
    assert "summary.json cannot be used (No space left on device): make room" in capsys.readouterr().err


class TornCapture:
    """Stands for cv2.VideoCapture of a camera that sends truncated JPEGs: `broken` of its frames cannot be decoded."""

    def __init__(self, broken):
        self._broken, self._n = broken, -1

    def grab(self):
        self._n += 1
        return True

    def retrieve(self, spare):
        return (False, None) if self._n in self._broken else (True, picture(self._n))

    def get(self, what):
        return 0.0


def test_a_truncated_jpeg_is_a_drop(monkeypatch):
    reader = CaptureReader(0, "cam", cv2.CAP_V4L2)
    reader._capture = TornCapture({1, 2})
    assert [reader.read(0, None).frame_id, reader.read(1, None).frame_id] == [0, 3]


@pytest.mark.parametrize("cut", [2, 3, 1000])
def test_a_jpeg_without_its_end_is_no_picture_even_to_a_lenient_decoder(cut, monkeypatch):
    jpeg = cv2.imencode(".jpg", picture(0))[1].ravel()
    assert capture.decode_whole(np.concatenate([jpeg, np.zeros(8, np.uint8)])[None]).shape == (180, 320, 3)
    monkeypatch.setattr(capture, "decode", lambda data: "what an older OpenCV makes of it")
    assert capture.decode_whole(jpeg[:-cut][None]) is None


def test_nothing_but_truncated_jpegs_is_a_lost_camera():
    reader = CaptureReader(0, "cam", cv2.CAP_V4L2)
    reader._capture = TornCapture(set(range(capture.BROKEN_FRAMES)))
    with pytest.raises(SourceLost, match="cannot be decoded"):
        reader.read(0, None)


@pytest.mark.parametrize(("owner", "name"), [(OverlaySink, "close"), (session, "write_json")])
def test_a_sigterm_while_the_outputs_end_lets_them_end(tmp_path, monkeypatch, owner, name):
    """systemd tells every process of a service to end, and the supervisor tells its worker again."""
    finish, out = getattr(owner, name), tmp_path / "out"

    def told_again(*arguments):
        signal.raise_signal(signal.SIGTERM)
        return finish(*arguments)

    monkeypatch.setattr(owner, name, told_again)
    source = "synthetic://?frames=3&width=160&height=90"
    arguments = [str(make_bundle(tmp_path / "b").path), "--source", source, "--out", str(out), "--no-supervise"]
    assert run_command(lambda: main(arguments)) == 0
    assert json.loads((out / "summary.json").read_text())["frames"] == 3
    assert cv2.VideoCapture(str(out / "overlay.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == 3


def test_sigterm_finishes_the_files_and_exits_0(tmp_path):
    bundle = make_bundle(tmp_path / "b")
    out = tmp_path / "out"
    source = "synthetic://?frames=0&width=160&height=90"
    command = [sys.executable, "-m", "inference", "run", str(bundle.path), "--source", source, "--out", str(out)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        lines = out / "decisions.jsonl"
        wait_until(lambda: has_grown_to(lines, 1000), "decisions")
        process.send_signal(signal.SIGTERM)
        errors = process.communicate(timeout=2 * LONGEST_S)[1]
    finally:
        process.kill()
    assert process.returncode == 0, errors
    summary = json.loads((out / "summary.json").read_text())
    assert summary["frames"] == len(lines.read_text().splitlines())
    assert cv2.VideoCapture(str(out / "overlay.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == summary["frames"]
