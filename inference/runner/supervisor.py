"""A small process that runs the runner in a worker, a child process, and forks a new worker when one dies or hangs.

`Supervisor.run` is the loop: fork a worker, receive its heartbeats until it ends or they stop, kill it if it hangs, and
fork the next one. A worker runs one whole session (`run_session`), so a new one opens bundle, engine and camera anew.
A camera that only stops giving frames is opened again within the worker (`Runner._reconnect`), without the supervisor.

The supervisor imports neither numpy nor OpenCV and never touches the camera or a runtime. It stays small, and a
worker forked from it starts clean: an error that sticks to a CUDA context dies with the process that had it.
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
from inference.runner.heartbeats import ENDING, FRAME_STATES, LOADING, OPENING, STATES, RunnerProcess
from inference.runner.systemd import Systemd

log = logging.getLogger(__name__)

REREADABLE = ("replay", "synthetic")
"""The schemes of recorded sources, which can be read again from their start; any other scheme is a camera's."""
TICK_S = 0.1
"""The longest wait between two looks at the worker's deadline and at systemd's watchdog."""
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
PR_SET_PDEATHSIG = 1
"""Source: prctl(2)."""


@dataclass(frozen=True)
class SupervisorLimits:
    """Limits on a worker's silence, in seconds of the monotonic clock, and on its failures."""

    hang_s: float = 2.0
    """A worker without a heartbeat for this long hangs: it is killed and another is started."""
    opening_s: float = 20.0
    """The same limit, from the worker's start to its first state."""
    loading_s: float = 1800.0
    """The same limit, while the backend opens: TensorRT-RTX may compile kernels then."""
    ending_s: float = 40.0
    """The same limit, while the worker ends: each sink may finish what waits in its queue."""
    restarts: int = 5
    """Restarts allowed before the state becomes FAILED."""
    reset_after_s: float = 60.0
    """After a worker has had frames for this long, the failures before it no longer count."""
    backoff_s: float = 0.05
    """The pause before the first restart; each further one is twice as long."""
    longest_backoff_s: float = 5.0

    def __post_init__(self) -> None:
        check_positive(**vars(self))


def is_camera(uri: str) -> bool:
    """Return whether a source is a camera: its scheme is not in REREADABLE, or it names a V4L2 device."""
    if "://" in uri:
        return uri.split("://", 1)[0].lower() not in REREADABLE
    return device_of(uri) is not None


class Supervisor:
    """Runs workers one after the other until one ends well, fails from the start, or the restarts are used up."""

    def __init__(
        self, work: Callable[[RunnerProcess], int | None], limits: SupervisorLimits, journal: Path | None = None
    ) -> None:
        """work: what a worker does, from start to end. journal: decisions.jsonl, which also says why a worker ended."""
        self._work = work
        self.limits = limits
        self._journal = journal
        self._systemd = Systemd()
        self._pid, self._pipe = 0, -1
        self._state: State | None = None
        """The worker's last state; None before its first."""
        self._frames_since: float | None = None
        """The time of the worker's first frame; None before it."""
        self._silence_s = self._deadline = 0.0
        """The longest silence that is allowed now, and the time at which it is over."""
        self._watchdog_at = 0.0
        """The time at which systemd's watchdog is next fed."""
        self._kill_reason = ""
        """The reason for which the supervisor killed the worker; empty where it did not."""
        self._stop_signal: int | None = None
        """The signal that asked for the end."""
        self._ready = False

    def run(self) -> int:
        """Run workers until one needs no restart; return its exit code. Raises CheckError when no restart is left."""
        for stop_signal in STOP_SIGNALS:
            signal.signal(stop_signal, self._stop)
        failures, number = 0, 0
        while True:
            self._spawn(number)
            code = self._watch()
            reason = self._kill_reason or _exit_reason(code)
            if self._stop_signal is not None:
                return self._code_when_stopped(code)
            if code == 0 or self._would_fail_again(code, number):
                return code
            # a camera that works for hours and then fails is not the same fault as one that never works
            failures = 1 if self._is_reset() else failures + 1
            if failures > self.limits.restarts:
                self._journal_state(State.FAILED, reason)
                self._systemd.notify(f"STATUS=FAILED: {reason}")
                raise CheckError(
                    f"the runner died {failures} times, the last time because {reason}: see the lines above"
                )
            pause_s = min(self.limits.backoff_s * 2.0 ** (failures - 1), self.limits.longest_backoff_s)
            number += 1
            self._journal_state(
                State.STARTING, f"{reason}; restart {failures} of {self.limits.restarts} in {pause_s:g} s"
            )
            self._pause(pause_s)
            if self._stop_signal is not None:
                return self._code_when_stopped(0)

    def _would_fail_again(self, code: int, number: int) -> bool:
        """Return whether a restart would only repeat the error of worker `number`; False for a crash."""
        # exit code 2, wrong input, is final from the first worker. A later one may find its camera unplugged, which a
        # restart can repair; but if it has had frames, the camera is not the cause (the disk may be full)
        if code == 2:
            return number == 0 or self._frames_since is not None
        # a failed check or Ctrl-C, before the first worker reported any state
        return number == 0 and code in (1, 130) and self._state is None

    def _code_when_stopped(self, code: int) -> int:
        """Return the exit code of a run that a signal ended: 130 after Ctrl-C, as in a shell; else the worker's."""
        if self._stop_signal == signal.SIGINT:
            return 130
        # SIGTERM may end a worker before it handles the signal, and with 143 just after: the same to whoever sent it
        if code == -signal.SIGTERM:
            return 128 + signal.SIGTERM
        return code if code >= 0 else 1

    def _spawn(self, number: int) -> None:
        readable, writable = os.pipe()
        for end in (readable, writable):
            os.set_blocking(end, False)  # neither side may ever wait for the other
        self._state = None
        self._frames_since = None
        self._kill_reason = ""
        self._silence_s = self.limits.opening_s
        self._deadline = time.monotonic() + self._silence_s
        parent = os.getpid()
        # blocked until the child's pid is stored, so that SIGTERM can be forwarded to it
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        self._pid = os.fork()
        if self._pid == 0:
            os.close(readable)
            self._child_main(parent, RunnerProcess(number, 0 if number else parent, writable))
        self._pipe = readable
        # the writable end is closed below: only the worker holds it then, so its death ends the stream
        log.debug(f"supervisor  process {self._pid} is worker {number}")
        if self._stop_signal is not None:  # it came before the signals were blocked, when no child could be told
            os.kill(self._pid, signal.SIGTERM)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        os.close(writable)

    def _child_main(self, parent: int, worker: RunnerProcess) -> NoReturn:
        """Do the work in the child, and end the process with its exit code."""
        code = 1
        try:
            # the kernel kills the worker when the supervisor dies. SIGKILL, since a worker that hangs survives SIGTERM;
            # no line is lost, since sinks flush each
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))
            if os.getppid() != parent:  # the supervisor died before the line above
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
        # poll and not select: select fails for descriptors of 1024 and more
        poll = select.poll()
        poll.register(self._pipe, select.POLLIN)
        while True:
            # returns at a heartbeat, at the end of the worker, and every tick, so that silence is noticed too
            poll.poll(TICK_S * 1000)
            looked = time.monotonic()  # before the pipe: this process may be stopped after it has found nothing there
            with suppress(BlockingIOError):  # a tick without a heartbeat
                heartbeats = os.read(self._pipe, 65536)
                if not heartbeats:  # end of file: the worker, which held the only other end, is dead
                    break
                self._receive(heartbeats)
            self._feed_watchdog()
            if looked > self._deadline:
                self._kill_reason = f"it hung for {self._silence_s:g} s"
                break
        os.close(self._pipe)
        return self._reap()

    def _receive(self, heartbeats: bytes) -> None:
        for heartbeat, _ in groupby(heartbeats):  # in order: FAILED must be seen, and ENDING follows it at once
            self._receive_one(bytes([heartbeat]))

    def _receive_one(self, heartbeat: bytes) -> None:
        limits = self.limits
        slow = {OPENING: limits.opening_s, LOADING: limits.loading_s, ENDING: limits.ending_s}
        if self._stop_signal is None:  # once it was told to end, no heartbeat gives it more time
            self._silence_s = slow.get(heartbeat, limits.hang_s)
            self._deadline = time.monotonic() + self._silence_s
        if heartbeat in slow:
            self._systemd.notify(f"EXTEND_TIMEOUT_USEC={slow[heartbeat] * 1e6:.0f}")
            return
        state = STATES[heartbeat[0]]
        if state in FRAME_STATES and self._frames_since is None:
            self._frames_since = time.monotonic()
        if state is not self._state:
            self._systemd.notify(f"STATUS={state}" if self._ready else f"READY=1\nSTATUS={state}")
            self._state, self._ready = state, True

    def _feed_watchdog(self) -> None:
        # fed in every loop that may take long: systemd must restart us only when this process itself hangs
        now = time.monotonic()
        if now >= self._watchdog_at:
            self._systemd.notify("WATCHDOG=1")
            self._watchdog_at = now + self._systemd.watchdog_interval_s

    def _reap(self) -> int:
        """Wait for the end of the worker, killing it if it hangs; return its exit code, negative for a signal.

        Raises CheckError when it stays: SIGKILL does not end a process before its call into a driver returns.
        """
        if self._kill_reason:
            os.kill(self._pid, signal.SIGKILL)
        until = time.monotonic() + self.limits.opening_s
        while time.monotonic() < until:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            if pid:
                self._pid = 0
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.002)
            self._feed_watchdog()
        raise CheckError(f"process {self._pid} hangs in the kernel and cannot be killed: restart the machine")

    def _is_reset(self) -> bool:
        """Return whether the last worker had frames for so long that the failures before it no longer count."""
        return self._frames_since is not None and time.monotonic() - self._frames_since >= self.limits.reset_after_s

    def _pause(self, pause_s: float) -> None:
        until = time.monotonic() + pause_s
        while self._stop_signal is None and (left := until - time.monotonic()) > 0:
            self._feed_watchdog()
            time.sleep(min(left, TICK_S))

    def _stop(self, signal_number: int, frame: Any) -> None:
        """Handle SIGTERM and SIGINT: ask the worker to end; if it does not in time, `_watch` kills it."""
        if self._stop_signal is not None:
            return
        self._stop_signal = signal_number
        self._systemd.notify("STOPPING=1")
        self._silence_s = self.limits.ending_s
        self._deadline = time.monotonic() + self._silence_s
        if self._pid:  # 0 would signal our whole process group
            os.kill(self._pid, signal.SIGTERM)  # it keeps its pid until it is reaped

    def _journal_state(self, state: State, reason: str) -> None:
        """Log a state that no worker can report, and append it to decisions.jsonl."""
        log.error(f"supervisor  {state}: {reason}")
        if self._journal is None:
            return
        # the same keys as Decision.as_json, whose module imports numpy: the supervisor must stay small
        line: dict[str, Any] = {
            "schema": 1, "frame": -1, "captured_ns": time.monotonic_ns(), "media_ms": time.monotonic_ns() / 1e6,
            "age_ms": 0.0, "age_basis": "arrival", "drops": 0, "state": state.value, "zones": {},
            "stages_ms": {}, "reason": reason, "fresh": False,
        }  # fmt: skip
        # a full disk must not end the supervisor; a+ opens for reading too, to look at the last byte
        with suppress(OSError), self._journal.open("a+b") as stream:
            if stream.seek(0, os.SEEK_END) and os.pread(stream.fileno(), 1, stream.tell() - 1) != b"\n":
                stream.write(b"\n")  # the worker died in the middle of a line
            stream.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")


def _exit_reason(code: int) -> str:
    if code >= 0:
        return f"it ended with exit code {code}"
    try:
        return f"it was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"it was ended by signal {-code}"
