"""A small process that keeps the runner alive: it starts it again when it dies or when its heartbeats stop.

The supervisor imports nothing but the standard library and never touches the camera or a runtime, so that a worker
forked from it starts clean: an error that sticks to a CUDA context dies with the process that had it.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, NoReturn

from core.cli import run_command
from core.errors import CheckError, check_positive
from inference.capture.v4l2 import device_of
from inference.frame.states import State
from inference.runner.systemd import Systemd

log = logging.getLogger(__name__)

RECORDED = ("replay", "synthetic")
"""The schemes that can be read again from their start; all others are cameras."""
STATES = tuple(State)
FRAME_STATES = frozenset({State.OK, State.UNKNOWN, State.UNPROVED, State.BLIND})
"""The states of a frame, in contrast to those of a camera without one."""
OPENING, BUILDING, ENDING = b"\xf0", b"\xf1", b"\xf2"
"""Heartbeats of a worker that does something slow; every other heartbeat is the rank of a state."""
TICK_S = 0.1
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
PR_SET_PDEATHSIG = 1
"""Source: prctl(2)."""


@dataclass(frozen=True)
class SupervisorLimits:
    """How long a worker may be silent and how often it may fail. Seconds of the monotonic clock."""

    hang_s: float = 2.0
    """After this long without a heartbeat the worker hangs: it is killed and another is started."""
    opening_s: float = 20.0
    """The same, from its start to its first turn."""
    building_s: float = 1800.0
    """The same, while an engine may be built."""
    ending_s: float = 40.0
    """The same, while it ends: each sink may finish what waits."""
    restarts: int = 5
    """Restarts allowed before the state becomes FAILED."""
    reset_after_s: float = 60.0
    """After this long with frames a worker has the whole budget again."""
    backoff_s: float = 0.05
    """The pause before the first restart; each further one is twice as long."""
    longest_backoff_s: float = 5.0

    def __post_init__(self) -> None:
        check_positive(**vars(self))


@dataclass(frozen=True)
class RunnerProcess:
    """The process that runs a session: its number, its start, and its heartbeats to the supervisor."""

    number: int = 0
    """How many workers there were before it."""
    start_pid: int = 0
    """The process whose start is the cold start's: the supervisor for the first worker, else the worker itself."""
    pipe: int = -1

    def heartbeat(self, kind: bytes) -> None:
        """Tell the supervisor that the main loop runs: one write of one byte; a full pipe is not waited for."""
        if self.pipe >= 0:
            with suppress(BlockingIOError):
                os.write(self.pipe, kind)

    def emit_status(self, state: State) -> None:
        """Send a heartbeat with the state of this turn."""
        self.heartbeat(HEARTBEATS[state])


HEARTBEATS = {state: bytes([rank]) for rank, state in enumerate(STATES)}
SINGLE_PROCESS = RunnerProcess()
"""A runner without a supervisor."""


def is_live(uri: str) -> bool:
    """Return whether a source is a camera, which cannot be read again from its start."""
    if "://" in uri:
        return uri.split("://", 1)[0].lower() not in RECORDED
    return device_of(uri) is not None


class Supervisor:
    """Runs workers one after the other until one ends well, fails from the start, or the budget is spent."""

    def __init__(
        self, work: Callable[[RunnerProcess], int | None], limits: SupervisorLimits, journal: Path | None = None
    ) -> None:
        self._work, self.limits, self._journal = work, limits, journal
        self._systemd = Systemd()
        self._pid, self._pipe = 0, -1
        self._state: State | None = None
        """The worker's last state; None before its first turn."""
        self._frames_since: float | None = None
        self._allowed_s = self._due = self._notify_at = 0.0
        self._kill_reason = ""
        """The reason why the supervisor killed the worker; empty where it did not."""
        self._stop_signal: int | None = None
        """The signal that asked for the end."""
        self._ready = False

    def run(self) -> int:
        """Return the exit code of the last worker. Raises CheckError once the budget is spent."""
        for one in STOP_SIGNALS:
            signal.signal(one, self._stop)
        failures, number = 0, 0
        while True:
            self._spawn(number)
            code = self._watch()
            why = self._kill_reason or _cause(code)
            if self._stop_signal is not None:
                return self._code_when_told(code)
            early = self._state is None or (code == 2 and self._frames_since is None)
            if code == 0 or (code in (1, 2, 130) and number == 0 and early):
                return code  # what was wrong before the first frame is still wrong after a restart
            failures = 1 if self._is_reset() else failures + 1
            if failures > self.limits.restarts:
                self._journal_state(State.FAILED, why)
                self._systemd.notify(f"STATUS=FAILED: {why}")
                raise CheckError(f"the runner died {failures} times, the last time since {why}: see the lines above")
            pause_s = min(self.limits.backoff_s * 2.0 ** (failures - 1), self.limits.longest_backoff_s)
            number += 1
            self._journal_state(State.STARTING, f"{why}; restart {failures} of {self.limits.restarts} in {pause_s:g} s")
            self._rest(pause_s)
            if self._stop_signal is not None:
                return self._code_when_told(0)

    def _code_when_told(self, code: int) -> int:
        if self._stop_signal == signal.SIGINT:
            return 130
        return code if code >= 0 else 1

    def _spawn(self, number: int) -> None:
        readable, writable = os.pipe()
        for end in (readable, writable):
            os.set_blocking(end, False)
        self._state, self._frames_since, self._kill_reason = None, None, ""
        self._allowed_s = self.limits.opening_s
        self._due = time.monotonic() + self._allowed_s
        parent = os.getpid()
        # until the child's pid is stored, so that a signal can be forwarded to it
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        self._pid = os.fork()
        if self._pid == 0:
            os.close(readable)
            self._child_main(parent, RunnerProcess(number, 0 if number else parent, writable))
        self._pipe = readable
        log.debug(f"supervisor  process {self._pid} is worker {number}")
        if self._stop_signal is not None:  # just before
            os.kill(self._pid, signal.SIGTERM)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        os.close(writable)

    def _child_main(self, parent: int, worker: RunnerProcess) -> NoReturn:
        code = 1
        try:
            # SIGKILL, since a worker that hangs would outlive SIGTERM; the lines it wrote are in the file
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))
            if os.getppid() != parent:
                os._exit(1)
            os.setpgid(0, 0)  # Ctrl-C reaches the supervisor alone, which passes it on once
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
            code = run_command(lambda: self._work(worker))
        except BaseException:  # the supervisor learns of it by the exit code
            log.critical("the worker ended by:", exc_info=True)
        finally:
            for stream in (sys.stdout, sys.stderr):
                with suppress(OSError, ValueError):
                    stream.flush()
            os._exit(code)  # no atexit, no joining of threads that hang in a driver

    def _watch(self) -> int:
        """Receive the worker's heartbeats until it ends or hangs; return its exit code, negative for a signal."""
        poll = select.poll()
        poll.register(self._pipe, select.POLLIN)
        while True:
            poll.poll(TICK_S * 1000)
            with suppress(BlockingIOError):
                heartbeats = os.read(self._pipe, 65536)
                if not heartbeats:  # the only other end is closed: it is dead
                    break
                self._receive(heartbeats)
            self._notify()
            if time.monotonic() > self._due:
                self._kill_reason = f"it hung for {self._allowed_s:g} s"
                break
        os.close(self._pipe)
        return self._reap()

    def _receive(self, heartbeats: bytes) -> None:
        for heartbeat, _ in groupby(heartbeats):  # in order: FAILED is followed at once by the heartbeat of the end
            self._receive_one(bytes([heartbeat]))

    def _receive_one(self, heartbeat: bytes) -> None:
        limits = self.limits
        busy = {OPENING: limits.opening_s, BUILDING: limits.building_s, ENDING: limits.ending_s}
        if self._stop_signal is None:  # else the time to end is running, whatever it still sends
            self._allowed_s = busy.get(heartbeat, limits.hang_s)
            self._due = time.monotonic() + self._allowed_s
        if heartbeat in busy:
            self._systemd.notify(f"EXTEND_TIMEOUT_USEC={busy[heartbeat] * 1e6:.0f}")
            return
        state = STATES[heartbeat[0]]
        if state in FRAME_STATES and self._frames_since is None:
            self._frames_since = time.monotonic()
        if state is not self._state:
            self._systemd.notify(f"STATUS={state}" if self._ready else f"READY=1\nSTATUS={state}")
            self._state, self._ready = state, True

    def _notify(self) -> None:
        now = time.monotonic()
        if now >= self._notify_at:
            self._systemd.notify("WATCHDOG=1")
            self._notify_at = now + self._systemd.every_s

    def _reap(self) -> int:
        """Kill the worker if it hangs; wait for it and return its exit code."""
        if self._kill_reason:
            os.kill(self._pid, signal.SIGKILL)
        until = time.monotonic() + self.limits.opening_s
        while time.monotonic() < until:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            if pid:
                self._pid = 0
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.002)
            self._notify()
        raise CheckError(f"process {self._pid} hangs in the kernel and cannot be killed: restart the machine")

    def _is_reset(self) -> bool:
        return self._frames_since is not None and time.monotonic() - self._frames_since >= self.limits.reset_after_s

    def _rest(self, pause_s: float) -> None:
        until = time.monotonic() + pause_s
        while self._stop_signal is None and (left := until - time.monotonic()) > 0:
            self._notify()
            time.sleep(min(left, TICK_S))

    def _stop(self, number: int, frame: Any) -> None:
        """Ask the worker to end; one that does not is killed when its time is over."""
        if self._stop_signal is not None:
            return
        self._stop_signal = number
        self._systemd.notify("STOPPING=1")
        self._allowed_s = self.limits.ending_s
        self._due = time.monotonic() + self._allowed_s
        if self._pid:  # 0 would be everyone in our group
            os.kill(self._pid, signal.SIGTERM)  # a zombie until it is reaped, so never another process

    def _journal_state(self, state: State, why: str) -> None:
        """Log a state that no worker can report, and append it to the decisions' file."""
        log.error(f"supervisor  {state}: {why}")
        if self._journal is None:
            return
        line: dict[str, Any] = {
            "schema": 1, "frame": -1, "captured_ns": time.monotonic_ns(), "media_ms": time.monotonic_ns() / 1e6,
            "age_ms": 0.0, "age_basis": "arrival", "drops": 0, "state": state.value, "zones": {},
            "stages_ms": {}, "reason": why, "fresh": False,
        }  # fmt: skip
        with suppress(OSError), self._journal.open("a+b") as stream:
            if stream.seek(0, os.SEEK_END) and os.pread(stream.fileno(), 1, stream.tell() - 1) != b"\n":
                stream.write(b"\n")  # it died in the middle of a line
            stream.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")


def _cause(code: int) -> str:
    if code >= 0:
        return f"it ended with exit code {code}"
    try:
        return f"it was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"it was ended by signal {-code}"
