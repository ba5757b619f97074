"""Workers that end in every way there is, under a supervisor.

Usage: `python -m tests.inference.runner.workers NAME FOLDER`.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import termios
import time
from pathlib import Path

from core.cli import run_command
from core.errors import CheckError, InputError
from inference.frame.states import State
from inference.runner.heartbeats import ENDING
from inference.runner.supervisor import Supervisor, SupervisorLimits
from tests.waiting import wait_until

LIMITS = {
    "hang_s": 60.0, "opening_s": 60.0, "ending_s": 60.0, "restarts": 2, "reset_after_s": 60.0, "backoff_s": 0.01,
    "longest_backoff_s": 0.015,
}  # fmt: skip


def turn(worker, seconds=0.0, state=State.OK):
    """Beat as the runner does, for a time."""
    until = time.monotonic() + seconds
    worker.report_state(state)
    while time.monotonic() < until:
        worker.report_state(state)
        time.sleep(0.01)


def be_heard(worker):
    """Return once the supervisor has taken in a heartbeat: it has, once it reads the next one."""
    for _ in range(2):
        turn(worker)
        wait_until(lambda: fcntl.ioctl(worker.pipe, termios.FIONREAD, bytes(4)) == bytes(4), "look of the supervisor")


def well(worker, folder):
    turn(worker)


def killed_once(worker, folder):
    turn(worker)
    if worker.number == 0:
        (folder / "decisions.jsonl").write_text('{"whole": 1}\n{"torn')
        os.kill(os.getpid(), signal.SIGKILL)


def hangs_once(worker, folder):
    turn(worker)
    if worker.number == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(600)


def always_raises(worker, folder):
    turn(worker)
    raise RuntimeError("sticky\nerror")


def fails_each_time_after_a_while(worker, folder):
    if worker.number == 6:
        return
    be_heard(worker)
    time.sleep(0.02)
    raise CheckError("the camera stays lost")


def wrong(worker, folder):
    raise InputError("there is no such bundle")


def refused(worker, folder):
    """The camera answers, after a while, that the password is wrong."""
    turn(worker, state=State.STARTING)
    turn(worker, 0.05, State.LOST)
    raise InputError("the camera refuses us (401)")


def wrong_at_the_end(worker, folder):
    """Every frame was decided, but the summary cannot be written."""
    turn(worker)
    if worker.number == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    worker.heartbeat(ENDING)
    raise InputError("the disk is full")


def wrong_later(worker, folder):
    if worker.number == 1:
        raise InputError("the camera is not there yet")
    turn(worker)
    if worker.number == 0:
        raise CheckError("unplugged")


def until_told(worker, folder):
    told = []
    signal.signal(signal.SIGTERM, lambda *_: told.append(1))
    (folder / "pid").write_text(str(os.getpid()))
    while not told:
        turn(worker, 0.05)
    worker.heartbeat(ENDING)
    (folder / "ended").write_text("cleanly")


def deaf(worker, folder):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    (folder / "pid").write_text(str(os.getpid()))
    turn(worker, 600)


def stuck(worker, folder):
    """Hangs and hears nothing: it cannot find out by itself that it is alone."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    (folder / "pid").write_text(str(os.getpid()))
    time.sleep(600)


if __name__ == "__main__":
    name, folder = sys.argv[1], Path(sys.argv[2])
    given = dict(pair.split("=") for pair in sys.argv[3:])
    limits = SupervisorLimits(**(LIMITS | {key: type(LIMITS[key])(value) for key, value in given.items()}))
    print(os.getpid(), flush=True)

    def work(worker):
        return globals()[name](worker, folder)

    raise SystemExit(run_command(Supervisor(work, limits, folder / "decisions.jsonl").run))
