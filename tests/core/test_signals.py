"""A command that a signal stops leaves no temporary file, no child and no traceback."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import LONGEST_S, is_alive, wait_until

ROOT = Path(__file__).parents[2]
COMMAND = """
import signal, subprocess, sys
from pathlib import Path
from core.cli import run_command
from core.files import replacing, replacing_folder

def command():
    with replacing(Path(sys.argv[1]) / "file") as file, replacing_folder(Path(sys.argv[1]) / "folder"):
        file.write_text("half")
        # the child waits for a line: it speaks only once subprocess.run has started it, and so ends it at a signal
        child = "import os, time; input(); print(os.getpid(), flush=True); time.sleep(600)"
        subprocess.run([sys.executable, "-c", child], input=b"\\n", check=False)

# a shell gives its background jobs a deaf SIGINT
signal.signal(signal.SIGINT, signal.default_int_handler)
raise SystemExit(run_command(command))
"""
FORKS = """
import multiprocessing, time
from core.cli import run_command

def work(ready):
    ready.set()
    time.sleep(60)

def command():
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    worker = context.Process(target=work, args=(ready,))
    worker.start()
    ready.wait()
    worker.terminate()
    worker.join()
    return -worker.exitcode

raise SystemExit(run_command(command))
"""

HANGS = """
import ctypes, signal, time
from core.cli import ending_native_calls, run_command

def command():
    with ending_native_calls(grace_s=0.1):
        libc, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(64)
        libc.pthread_mutex_lock(mutex)
        print("locked", flush=True)
        libc.pthread_mutex_lock(mutex)  # a mutex that this thread holds: no signal ends the wait

signal.signal(signal.SIGINT, signal.default_int_handler)
raise SystemExit(run_command(command))
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_native_call_that_hangs(number, code):
    command = subprocess.Popen(
        [sys.executable, "-c", HANGS], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert command.stdout.readline() == "locked\n"
        command.send_signal(number)
        _, stderr = command.communicate(timeout=LONGEST_S)
    finally:
        command.kill()
        command.wait()
    assert command.returncode == code
    # between the line and the lock Python itself still takes the signal
    assert stderr.startswith("stopped by ")


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [(signal.SIGTERM, 143, "stopped by SIGTERM\n"), (signal.SIGINT, 130, "stopped by Ctrl-C\n")],
)
def test_a_stopped_command_leaves_nothing(tmp_path, number, code, said):
    command = subprocess.Popen(
        [sys.executable, "-c", COMMAND, tmp_path], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    child = int(command.stdout.readline())
    assert len(list(tmp_path.iterdir())) == 2
    command.send_signal(number)
    _, stderr = command.communicate(timeout=LONGEST_S)
    assert (command.returncode, stderr) == (code, said)
    assert list(tmp_path.iterdir()) == []
    # subprocess.run kills its child at Ctrl-C and goes on: the child ends at its own pace, and who reaps it is not ours
    wait_until(lambda: not is_alive(child), "end of the child")


def test_a_forked_worker_that_is_terminated_ends_by_the_signal_without_a_word():
    done = subprocess.run([sys.executable, "-c", FORKS], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (signal.SIGTERM, "")
