"""The heartbeats of a worker process, which its supervisor receives through a pipe.

Neither numpy nor OpenCV is imported: the supervisor stays small, and a worker forked from it starts clean.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass

from inference.frame.states import RANK, State

STATES = tuple(State)
"""The states by their rank."""
FRAME_STATES = frozenset({State.OK, State.UNKNOWN, State.UNPROVED, State.BLIND})
"""The states that need a frame, in contrast to those of a camera that gives none."""
HEARTBEATS = {state: bytes([rank]) for state, rank in RANK.items()}
"""The heartbeat of each state, the byte of its rank. Both ends of the pipe are of one version: ranks may change."""
# far above the ranks of the states, which are bytes of the same pipe
OPENING, LOADING, ENDING = b"\xf0", b"\xf1", b"\xf2"
"""The heartbeats of a worker that is about to do something slow."""


@dataclass(frozen=True)
class RunnerProcess:
    """The process that runs a session: its number, its start, and its heartbeats to the supervisor."""

    number: int = 0
    """The number of workers before this one; 0 for the first."""
    start_pid: int = 0
    """The process from whose start the cold start counts: the supervisor for the first worker, 0 for this process."""
    pipe: int = -1
    """The end of the pipe that heartbeats are written to; -1 without a supervisor."""

    def heartbeat(self, kind: bytes) -> None:
        """Tell the supervisor that this process is alive, by one byte; a full pipe is not waited for."""
        if self.pipe >= 0:
            # a full pipe holds heartbeats enough: the supervisor reads them all at once
            with suppress(BlockingIOError):
                os.write(self.pipe, kind)

    def report_state(self, state: State) -> None:
        """Send a heartbeat that carries the current state."""
        self.heartbeat(HEARTBEATS[state])


SINGLE_PROCESS = RunnerProcess()
"""A runner without a supervisor."""
