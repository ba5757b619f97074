"""The states of the runner, and what a frame's age counts from. A class is said only in OK."""

from __future__ import annotations

from enum import Enum


class State(str, Enum):
    """What can be said of a zone, or of the whole camera. The order is from best to worst."""

    OK = "OK"
    UNKNOWN = "UNKNOWN"
    """The top probability is under the bundle's abstain threshold."""
    UNPROVED = "UNPROVED"
    """A fixed zone, and a model without a background class: it would name a class of an empty road."""
    BLIND = "BLIND"
    """Black, saturated, blurred or covered; or a box that lies outside the frame."""
    STALE = "STALE"
    """No new frame, or the same frame again and again."""
    LOST = "LOST"
    """The camera is gone and is being reconnected."""
    STARTING = "STARTING"
    """No frame was decided yet."""
    FAILED = "FAILED"
    """This program cannot go on."""

    def __str__(self) -> str:
        return self.value


RANK = {state: rank for rank, state in enumerate(State)}


def worst(states: list[State]) -> State:
    """Return the worst of the states of a frame's zones: a reader of one word gets the careful one."""
    return max(states, key=RANK.__getitem__)
