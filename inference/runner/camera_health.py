"""The health of the camera over time: STARTING, STALE, LOST and back, by measured time, each change with its reason."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from core.errors import check_positive
from inference.frame.states import State

log = logging.getLogger(__name__)

SEEING = frozenset({State.OK, State.UNKNOWN, State.UNPROVED})
"""What is said of a frame that can be looked at."""
EVENTS_KEPT = 1000


@dataclass(frozen=True)
class Patience:
    """How long is waited for what, in seconds of the monotonic clock."""

    stale_intervals: float = 2.0
    """No new frame for so many of the source's intervals, the measured or the nominal, the longer one: STALE."""
    frozen_s: float = 0.3
    """The same picture to the bit for so long, three times at least: STALE."""
    hung_s: float = 2.0
    """No new frame for so long: the camera is LOST and opened again."""
    start_s: float = 10.0
    """The same, for the first frame after opening."""
    backoff_s: float = 0.1
    """The pause before the first attempt to open again; each further one is twice as long."""
    longest_backoff_s: float = 5.0
    failed_s: float = 60.0
    """LOST for so long: FAILED."""

    def __post_init__(self) -> None:
        check_positive(**vars(self))


class Watch:
    """Remembers the state of the camera and what changed it. Times are monotonic nanoseconds."""

    def __init__(self, patience: Patience, *, log: bool) -> None:
        self.patience = patience
        self.state = State.STARTING
        self.events: list[dict[str, Any]] = []
        self.attempts = 0
        """How often the camera was opened again since its last frame."""
        self._log = log
        self._began_ns: int | None = None
        self._lost_ns: int | None = None
        self._repeats = 0
        self._repeated_since_ns = 0
        self._heard_ns: int | None = None
        self._interval_s = 0.0

    def change(self, state: State, reason: str, now_ns: int) -> bool:
        """Take the state in; return whether that is a change. UNKNOWN counts as OK: the camera is well."""
        if self._began_ns is None:
            self._began_ns = now_ns
        if state is State.UNKNOWN:
            state = State.OK
        if state is self.state:
            return False
        at_s = (now_ns - self._began_ns) / 1e9
        if self._log:
            if len(self.events) < EVENTS_KEPT:
                event = {"at_s": round(at_s, 3), "from": self.state.value, "to": state.value, "reason": reason}
                self.events.append(event)
            if not (self.state is State.STARTING and state is State.OK):
                log.info(f"{self.state} -> {state}: {reason}")
        self.state = state
        return True

    def heard(self, now_ns: int, nominal_s: float) -> None:
        """Take note that the camera gave a frame; its interval is measured, as four nominal ones at most."""
        self.attempts, self._lost_ns = 0, None
        if self._heard_ns is not None:
            interval_s = min((now_ns - self._heard_ns) / 1e9, 4 * nominal_s)
            self._interval_s += 0.2 * (interval_s - self._interval_s)
        self._heard_ns = now_ns

    def stale_after_s(self, nominal_s: float) -> float:
        """Return how long a frame may be waited for."""
        return self.patience.stale_intervals * max(nominal_s, self._interval_s)

    def is_frozen(self, same: bool, media_ns: int) -> bool:
        """Return whether the picture has been the same for too long. media_ns: the frame's place in time."""
        if not same:
            self._repeats, self._repeated_since_ns = 0, media_ns
            return False
        self._repeats += 1
        return self._repeats >= 2 and media_ns - self._repeated_since_ns >= self.patience.frozen_s * 1e9

    def next_pause_s(self, now_ns: int) -> float | None:
        """Return how long to wait before the camera is opened again, or None when it was lost for too long."""
        if self._lost_ns is None:
            self._lost_ns = now_ns
        if now_ns - self._lost_ns >= self.patience.failed_s * 1e9:
            return None
        pause_s = self.patience.backoff_s * 2.0 ** min(self.attempts, 16)
        self.attempts += 1
        return min(pause_s, self.patience.longest_backoff_s)
