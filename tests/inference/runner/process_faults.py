"""What goes wrong with the program itself, on one supervised drive: killed, hung, raising, stopped, replaced, ended."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from core.bundle.contract import open_bundle
from inference.runner.supervisor import SupervisorLimits
from tests.bundles import make_bundle
from tests.inference.runner.test_region_choice import write_detector
from tests.waiting import LONGEST_S, wait_until

ROOT = Path(__file__).parents[3]
SOURCE = "synthetic://?frames=0&width=320&height=180"
ENDS_MS = 2000
"""From SIGTERM to the exit, files finished."""
STARTS_MS = 2000
"""A restart is a cold start: the whole of it within what FMVSS 111 gives the picture."""


@dataclass(frozen=True)
class ProcessFault:
    """What is done to the program, the state that must stand in its file, and how soon; `""` for none but OK."""

    name: str
    state: str
    within_ms: float
    back_ms: float
    do: Callable


class Drive:
    """One supervised drive over the synthetic camera in real time, with a detector; its decisions are read."""

    def __init__(self, folder: Path, *limits: str) -> None:
        """limits: of the supervisor, NAME=VALUE."""
        self.folder, self.out = folder, folder / "out"
        self.bundle = make_bundle(folder / "bundle").path
        detector = write_detector(folder / "detector.onnx")
        command = [sys.executable, "-m", "tests.inference.runner.faulty_run", str(folder), *limits, "--"]
        command += [str(self.bundle), "--source", SOURCE, "--realtime", "--supervise", "--backend", "null"]
        command += ["--detector", str(detector), "--no-overlay", "--out", str(self.out)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )

    def lines(self) -> list[dict]:
        path = self.out / "decisions.jsonl"
        text = path.read_text() if path.exists() else ""
        whole = text[: text.rfind("\n") + 1].splitlines()
        return [json.loads(line) for line in whole if line.endswith("}")]  # a killed worker leaves half a line

    def wait(self, what: Callable[[dict], bool], since_ns: int) -> int | None:
        """Return when a line that fits was said, after `since_ns` on the monotonic clock; None where it never is."""
        until = time.monotonic() + LONGEST_S
        while time.monotonic() < until:
            for line in self.lines():
                at = line["captured_ns"] + round(line["age_ms"] * 1e6 if line.get("fresh", True) else 0)
                if at > since_ns and what(line):
                    return at
            time.sleep(0.02)
        return None

    def signal_worker(self, number: int) -> bool:
        """Return whether there was a worker to signal: a busy machine may start another just then."""
        try:
            os.kill(int((self.folder / "pid").read_text()), number)
        except (ValueError, ProcessLookupError):
            return False
        return True

    def suffer(self, fault: ProcessFault) -> tuple[float | None, float | None]:
        """Return the milliseconds to the state and from there to the first OK."""
        began = time.monotonic_ns()
        fault.do(self)
        said: int | None = began
        if fault.state:
            said = self.wait(lambda line: line["state"] == fault.state, began)
        if said is None:
            return None, None
        back = self.wait(lambda line: line["state"] == "OK", said)
        return (said - began) / 1e6, None if back is None else (back - said) / 1e6

    def end(self) -> tuple[int, float]:
        """Send SIGTERM; return the exit code and the milliseconds it took."""
        began = time.monotonic()
        self.process.terminate()
        self.errors = self.process.communicate(timeout=2 * LONGEST_S)[1]
        return self.process.returncode, (time.monotonic() - began) * 1000

    def summary(self) -> dict:
        return json.loads((self.out / "summary.json").read_text())


def signalled(number: int) -> Callable:
    return lambda drive: wait_until(lambda: drive.signal_worker(number), "worker")


def asked_to(word: str) -> Callable:
    return lambda drive: (drive.folder / word).write_text("")


def replace_bundle(drive: Drive) -> None:
    """Put another bundle in its place, as a renamed folder, as our own writers do."""
    other = drive.folder / "other"
    make_bundle(other)
    replace(open_bundle(other), arch="another").save()
    old = drive.folder / "old"
    os.replace(drive.bundle, old)
    os.replace(other, drive.bundle)
    shutil.rmtree(old)


HANG_MS = SupervisorLimits.hang_s * 1000 + 500
PROCESS_FAULTS = [
    ProcessFault("kill -9 of the worker", "STARTING", 500, STARTS_MS, signalled(signal.SIGKILL)),
    ProcessFault("worker stopped (SIGSTOP)", "STARTING", HANG_MS, STARTS_MS, signalled(signal.SIGSTOP)),
    ProcessFault("backend that hangs", "STARTING", HANG_MS, STARTS_MS, asked_to("hang")),
    ProcessFault("backend that raises", "FAILED", 200, STARTS_MS, asked_to("raise")),
    ProcessFault("detector that hangs", "STARTING", HANG_MS, STARTS_MS, asked_to("detector-hang")),
    ProcessFault("detector that raises", "FAILED", 200, STARTS_MS, asked_to("detector-raise")),
    ProcessFault("bundle replaced while running", "", 0, 200, replace_bundle),
]
