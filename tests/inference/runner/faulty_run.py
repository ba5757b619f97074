"""`python -m inference run` with a network and a detector that fail on demand, and its supervisor's limits.

Usage: `python -m tests.inference.runner.faulty_run FOLDER [NAME=VALUE ...] -- ...`.

A file in FOLDER is obeyed by the worker that finds it while it runs: `raise` and `hang` by the network,
`detector-raise` and `detector-hang` by the detector. It is taken away, but for one whose name ends in `-always`.
"""

from __future__ import annotations

import os
import sys
import time
from functools import partial
from pathlib import Path
from threading import Event

from core.cli import run_command
from inference.commands import run
from inference.runner.supervisor import SupervisorLimits

FOLDER = Path(sys.argv[1])
RUNS = Event()
GIVEN = sys.argv[2 : sys.argv.index("--")]
honest = run.run_worker


def obey(who=""):
    for word in ("raise", "hang"):
        once, always = FOLDER / f"{who}{word}", FOLDER / f"{who}{word}-always"
        if RUNS.is_set() and (once.exists() or always.exists()):
            once.unlink(missing_ok=True)
            if word == "raise":
                raise RuntimeError("CUDA error 700")
            time.sleep(3600)


def work(options, worker):
    from inference.backends.null import NullBackend
    from inference.backends.ort import OrtNetwork
    from inference.runner.runner import Runner

    infer, detect, drive = NullBackend.infer, OrtNetwork.run, Runner.run
    Runner.run = lambda self, frames: (RUNS.set(), drive(self, frames))[1]
    NullBackend.infer = lambda self, n: (obey(), infer(self, n))[1]
    OrtNetwork.run = lambda self, feeds: (obey("detector-"), detect(self, feeds))[1]
    (FOLDER / "pid").write_text(str(os.getpid()))
    honest(options, worker)


run.run_worker = work
limits = {name: type(getattr(SupervisorLimits, name))(value) for name, _, value in (t.partition("=") for t in GIVEN)}
run.SupervisorLimits = partial(SupervisorLimits, **limits)
raise SystemExit(run_command(lambda: run.main(sys.argv[sys.argv.index("--") + 1 :])))
