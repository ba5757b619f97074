"""`python -m inference run`, with the time-outs that a busy machine needs: python -m tests.inference.patient_run ...

For tests of the whole program that are not about its time-outs. No import of numpy or OpenCV before a worker is forked.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import partial

from core.cli import run_command
from inference.commands import run
from inference.runner.supervisor import SupervisorLimits
from tests.waiting import LONGEST_S


def stream_patience():
    """Return each time-out of a stream as a module, a name in it, and a longer time.

    An opening or a read that stalls can be tried again within the longest wait.
    """
    import cv2

    from inference.capture import ffmpeg, reader
    from inference.sources import stream

    timeouts = dict(zip(stream.OPTIONS[::2], stream.OPTIONS[1::2], strict=True))
    for timeout in (cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, cv2.CAP_PROP_READ_TIMEOUT_MSEC):
        timeouts[timeout] = round(LONGEST_S / 3 * 1000)
    return [
        (stream, "OPTIONS", tuple(value for pair in timeouts.items() for value in pair)),
        (reader, "ANSWERS_S", LONGEST_S),
        (ffmpeg, "REASON_TIMEOUT_S", LONGEST_S),
    ]


@dataclass(frozen=True)
class PatientLimits(SupervisorLimits):
    hang_s: float = LONGEST_S
    opening_s: float = LONGEST_S


def work(arguments, worker):
    from inference.runner import session
    from inference.runner.camera_health import HealthTimeouts

    timeouts = HealthTimeouts(hung_s=LONGEST_S, start_s=LONGEST_S)
    session.RunnerConfig = partial(session.RunnerConfig, timeouts=timeouts)
    for module, name, value in stream_patience():
        setattr(module, name, value)
    run_worker(arguments, worker)


if __name__ == "__main__":
    run_worker, run.run_worker, run.SupervisorLimits = run.run_worker, work, PatientLimits
    raise SystemExit(run_command(lambda: run.main(sys.argv[1:])))
