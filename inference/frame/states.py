"""The states of a region, a frame and a camera. A class is reported only in OK."""

from __future__ import annotations

from enum import Enum


class State(str, Enum):
    """The state of a region, a frame or the whole camera.

    The order is a rank, from best to worst: `worst` compares by it, and a worker sends it to its supervisor as one byte
    (inference/runner/heartbeats.py).
    """

    OK = "OK"
    """A class is reported; of a frame, also that a detector finds nothing in it."""
    UNKNOWN = "UNKNOWN"
    """The leading class is less probable than the bundle's abstain threshold, after smoothing where there is any; or a
    detector's box is too small to tell its class."""
    UNPROVED = "UNPROVED"
    """A fixed zone and a model without a background class, which would name a class even on an empty road."""
    BLIND = "BLIND"
    """Black, saturated, blurred or covered; a box that lies outside the frame; or a detector that gives NaN."""
    STALE = "STALE"
    """No new frame, or the same frame again and again."""
    LOST = "LOST"
    """The camera is gone; the runner tries to open it again."""
    STARTING = "STARTING"
    """No frame has been decided yet."""
    FAILED = "FAILED"
    """The program cannot go on."""

    def __str__(self) -> str:
        return self.value


RANK = {state: rank for rank, state in enumerate(State)}
"""The place of each state in the order, 0 for the best."""


def worst(states: list[State]) -> State:
    """Return the worst of the states of a frame's regions, which stands for the frame."""
    return max(states, key=RANK.__getitem__)
