"""The supervisor: a worker that dies or hangs is started again, within a budget; nobody is left behind."""

from __future__ import annotations

import configparser
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import pytest

from core.errors import InputError
from inference.frame.states import State
from inference.runner.heartbeats import HEARTBEATS
from inference.runner.supervisor import TICK_S, Supervisor, SupervisorLimits, is_camera
from inference.runner.systemd import Systemd
from tests.waiting import LONGEST_S, is_alive, wait_until

ROOT = Path(__file__).parents[3]


def start(name, folder, *limits, environment=None):
    command = [sys.executable, "-m", "tests.inference.runner.workers", name, str(folder), *limits]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=ROOT, text=True, env=os.environ | (environment or {}), **pipes)


def finish(process):
    try:
        errors = process.communicate(timeout=2 * LONGEST_S)[1]
    finally:
        process.kill()
    return process.returncode, errors


def supervise(name, folder, *limits):
    return finish(start(name, folder, *limits))


def journal(folder):
    lines = [line for line in (folder / "decisions.jsonl").read_text().splitlines() if line.endswith("}")]
    return [(line.get("state"), line.get("reason", "")) for line in map(json.loads, lines)]


def wait_for(path):
    return wait_until(lambda: path.exists() and path.read_text(), path.name)


def test_a_worker_that_ends_well_is_the_end(tmp_path):
    assert supervise("well", tmp_path) == (0, "")


def test_a_killed_worker_is_started_again_and_the_file_of_decisions_says_why(tmp_path):
    code, errors = supervise("killed_once", tmp_path)
    assert code == 0
    assert "STARTING: it was ended by SIGKILL; restart 1 of 2" in errors
    lines = (tmp_path / "decisions.jsonl").read_text().splitlines()
    assert lines[:2] == ['{"whole": 1}', '{"torn']
    said = json.loads(lines[2])
    assert (said["state"], said["zones"], said["fresh"], said["frame"]) == ("STARTING", {}, False, -1)
    jsonschema.validate(said, json.loads((ROOT / "inference" / "frame" / "decision.schema.json").read_text()))


def test_a_worker_that_hangs_is_killed_and_started_again(tmp_path):
    code, errors = supervise("hangs_once", tmp_path, "hang_s=1")
    assert (code, errors.count("it hung for 1 s; restart 1 of 2")) == (0, 1)


@pytest.mark.parametrize("state", [State.STARTING, State.LOST, State.OK])
def test_a_worker_that_looks_for_its_camera_does_not_hang(monkeypatch, state):
    now_s = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    supervisor = Supervisor(lambda worker: 0, SupervisorLimits(hang_s=2))
    for _ in range(5):
        supervisor._receive(HEARTBEATS[state])
        assert supervisor._deadline == now_s + 2
        now_s += 1.9


def test_a_supervisor_that_was_stopped_itself_takes_no_worker_for_a_hung_one(monkeypatch):
    """It had found no heartbeat, and was stopped before it looked at the clock."""
    supervisor, now_s, waiting = Supervisor(lambda worker: 0, SupervisorLimits(hang_s=2)), [0.0], [b"", None]
    readable, writable = os.pipe()
    supervisor._pipe, supervisor._deadline = readable, 1.0

    def read_later(descriptor, size):
        if (found := waiting.pop()) is None:
            now_s[0] = 9.0
            raise BlockingIOError
        return found

    monkeypatch.setattr(os, "read", read_later)
    monkeypatch.setattr(time, "monotonic", lambda: now_s[0])
    monkeypatch.setattr(supervisor, "_reap", lambda: 0)
    supervisor._watch()
    assert supervisor._kill_reason == ""
    os.close(writable)


def test_when_the_budget_is_spent_it_has_failed_and_the_pauses_grew(tmp_path):
    code, errors = supervise("always_raises", tmp_path)
    assert code == 1
    assert [state for state, _ in journal(tmp_path)] == ["STARTING", "STARTING", "FAILED"]
    assert "1 of 2 in 0.01 s" in errors
    assert "2 of 2 in 0.015 s" in errors
    assert errors.splitlines()[-1].startswith("failed: the runner died 3 times")


def test_a_worker_that_saw_frames_for_long_enough_gets_the_whole_budget_again(tmp_path):
    assert supervise("fails_each_time_after_a_while", tmp_path, "reset_after_s=0.01")[0] == 0
    assert supervise("fails_each_time_after_a_while", tmp_path, "reset_after_s=600")[0] == 1


def test_what_is_wrong_from_the_start_is_not_tried_again(tmp_path):
    assert supervise("wrong", tmp_path) == (2, "error: there is no such bundle\n")


def test_a_camera_that_refuses_us_before_its_first_frame_is_not_asked_again(tmp_path):
    assert supervise("refused", tmp_path) == (2, "error: the camera refuses us (401)\n")


def test_what_is_wrong_at_the_end_does_not_decide_all_frames_again(tmp_path):
    code, errors = supervise("wrong_at_the_end", tmp_path)
    assert (code, errors.count("STARTING")) == (2, 1)


def test_what_becomes_wrong_later_is_tried_again(tmp_path):
    code, errors = supervise("wrong_later", tmp_path)
    assert (code, errors.count("STARTING")) == (0, 2)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_ends_the_worker_as_a_person_would(tmp_path, number, code):
    process = start("until_told", tmp_path)
    pid = int(wait_for(tmp_path / "pid"))
    assert os.getpgid(pid) == pid  # a terminal's Ctrl-C goes to the supervisor alone
    process.send_signal(number)
    assert finish(process) == (code, "")
    assert (tmp_path / "ended").read_text() == "cleanly"
    assert not is_alive(pid)


def test_a_signal_while_there_is_no_worker_goes_to_nobody(monkeypatch):
    sent = []
    monkeypatch.setattr(os, "kill", lambda *arguments: sent.append(arguments))
    supervisor = Supervisor(lambda worker: 0, SupervisorLimits())
    supervisor._stop(signal.SIGTERM, None)
    assert sent == []


def test_a_signal_just_before_a_start_ends_it(tmp_path):
    code = (
        "import signal, time; from inference.runner.supervisor import SupervisorLimits, Supervisor;"
        "s = Supervisor(lambda worker: time.sleep(60), SupervisorLimits()); s._stop_signal = signal.SIGTERM;"
        "raise SystemExit(s.run())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, timeout=LONGEST_S, check=False)
    assert done.returncode == 143  # it had not begun: nothing was finished


def test_a_worker_that_dies_while_its_successor_waits_is_not_asked_again(tmp_path):
    process = start("always_raises", tmp_path, "backoff_s=30", "longest_backoff_s=30")
    wait_for(tmp_path / "decisions.jsonl")
    process.terminate()
    code, errors = finish(process)
    assert (code, errors.count("STARTING")) == (0, 1)


def test_a_worker_that_will_not_end_is_killed(tmp_path):
    process = start("deaf", tmp_path, "ending_s=0.3")
    pid = int(wait_for(tmp_path / "pid"))
    process.terminate()
    assert finish(process)[0] == 1
    assert not is_alive(pid)


def test_a_killed_supervisor_leaves_no_orphan(tmp_path):
    process = start("stuck", tmp_path)
    pid = int(wait_for(tmp_path / "pid"))
    process.kill()
    process.wait(LONGEST_S)
    wait_until(lambda: not is_alive(pid), "end of the worker")
    process.communicate()


@pytest.fixture
def manager(tmp_path):
    """The service manager's end of the socket."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listening.bind(str(tmp_path / "notify"))
    listening.settimeout(LONGEST_S)
    yield listening
    listening.close()


def heard(manager):
    said = []
    manager.setblocking(False)
    while True:
        try:
            said.append(manager.recv(4096).decode())
        except BlockingIOError:
            return said


def test_systemd_hears_of_readiness_and_the_end(tmp_path, manager):
    """There are fewer words than a socket holds: the supervisor waits for no reader."""
    process = start("until_told", tmp_path, environment={"NOTIFY_SOCKET": str(tmp_path / "notify")})
    wait_for(tmp_path / "pid")
    said = [manager.recv(4096).decode()]
    while "READY=1" not in said[-1]:
        said.append(manager.recv(4096).decode())
    process.terminate()
    assert finish(process)[0] == 0
    said += heard(manager)
    words = [word for word in said if not word.startswith(("WATCHDOG", "EXTEND"))]
    assert words == ["READY=1\nSTATUS=OK", "STOPPING=1"]


def test_systemd_hears_again_and_again_that_it_lives(tmp_path, manager):
    environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "40000"}
    process = start("until_told", tmp_path, environment=environment)
    wait_for(tmp_path / "pid")
    said = []
    while said.count("WATCHDOG=1") < 15:  # more than waited in the socket
        said.append(manager.recv(4096).decode())
    process.terminate()
    assert finish(process)[0] == 0


@pytest.mark.parametrize(("state", "seen"), [(State.UNPROVED, True), (State.BLIND, True), (State.LOST, False)])
def test_a_worker_that_decides_frames_has_seen_them_whatever_it_says_of_them(state, seen):
    supervisor = Supervisor(lambda worker: 0, SupervisorLimits())
    supervisor._receive(HEARTBEATS[state])
    assert (supervisor._frames_since is not None) == seen


def test_the_unit_waits_for_the_word_and_watches():
    unit = configparser.ConfigParser(strict=False)
    unit.read(ROOT / "export" / "device" / "rearguard.service")
    assert (unit["Service"]["Type"], unit["Service"]["Restart"]) == ("notify", "always")
    assert float(unit["Service"]["WatchdogSec"]) > 20 * TICK_S
    assert float(unit["Service"]["TimeoutStopSec"]) > SupervisorLimits().ending_s


def test_the_watchdog_of_another_process_is_not_ours():
    assert Systemd(
        {"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "1"}
    ).watchdog_interval_s == float("inf")
    assert (
        Systemd(
            {"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "2000000", "WATCHDOG_PID": str(os.getpid())}
        ).watchdog_interval_s
        == 1
    )
    assert Systemd({}).watchdog_interval_s == float("inf")


def test_an_abstract_socket_is_heard():
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    name = f"rearguard-test-{os.getpid()}"
    listening.bind(f"\0{name}")
    listening.settimeout(LONGEST_S)
    Systemd({"NOTIFY_SOCKET": f"@{name}"}).notify("READY=1")
    assert listening.recv(64) == b"READY=1"
    listening.close()


def test_a_manager_that_is_gone_changes_nothing(tmp_path):
    Systemd({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).notify("READY=1")
    Systemd({}).notify("READY=1")


def test_the_supervisor_holds_neither_numpy_nor_opencv_nor_a_thread():
    code = (
        "import sys, threading, inference.commands.run as run; run.read_arguments(['b', '--source', '0']);"
        "print([m for m in ('numpy', 'cv2', 'onnxruntime') if m in sys.modules], threading.active_count())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[] 1\n"


@pytest.mark.parametrize("uri", ["0", "/dev/video2", "csi://0", "rtsp://10.0.0.1/x", "http://cam/v", "https://cam/v"])
def test_cameras_are_supervised(uri):
    assert is_camera(uri)


@pytest.mark.parametrize("uri", ["road.mp4", "photos", "synthetic://", "/dev/shm/video.mp4"])
def test_what_can_be_read_again_is_not(uri):
    assert not is_camera(uri)


@pytest.mark.parametrize("field", ["hang_s", "restarts", "backoff_s"])
def test_limits_refuse_nonsense(field):
    with pytest.raises(InputError, match=field):
        SupervisorLimits(**{field: 0})
