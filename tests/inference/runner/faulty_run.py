"""`python -m inference run` with a network that fails on demand.

Usage: `python -m tests.inference.runner.faulty_run FOLDER ...`.

A file `raise` or `hang` in FOLDER is taken away by the worker that obeys it.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from core.cli import run_command
from inference.commands import run

FOLDER = Path(sys.argv[1])
honest = run.work


def work(options, worker):
    from inference.backends.null import NullBackend

    infer = NullBackend.infer

    def moody(self, n):
        for name in ("raise", "hang"):
            if (FOLDER / name).exists():
                (FOLDER / name).unlink()
                if name == "raise":
                    raise RuntimeError("CUDA error 700")
                time.sleep(3600)
        return infer(self, n)

    NullBackend.infer = moody
    (FOLDER / "pid").write_text(str(os.getpid()))
    honest(options, worker)


run.work = work
raise SystemExit(run_command(lambda: run.main(sys.argv[2:])))
