"""Decides by the time between frames whether a camera is STALE or LOST; keeps the runner's state and its changes."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from core.errors import check_positive
from inference.frame.states import State

log = logging.getLogger(__name__)

EVENTS_KEPT = 1000
"""The most changes in summary.json: a camera with a loose cable changes all day."""


@dataclass(frozen=True)
class HealthTimeouts:
    """Timeouts of the camera, in seconds of the monotonic clock."""

    stale_intervals: float = 2.0
    """The camera is STALE after this many frame intervals (the longer of measured and nominal)."""
    hung_s: float = 2.0
    """After this long without a new frame the camera is LOST and opened again."""
    start_s: float = 10.0
    """The same limit, for the first frame after opening."""
    backoff_s: float = 0.1
    """The pause before the first attempt to open again; each further one is twice as long."""
    longest_backoff_s: float = 5.0
    failed_s: float = 60.0
    """A camera that is LOST for this long is given up: FAILED."""

    def __post_init__(self) -> None:
        check_positive(**vars(self))


class CameraHealth:
    """The state of the runner, its changes, and the times of the camera's frames. Times are monotonic nanoseconds."""

    def __init__(self, timeouts: HealthTimeouts, now_ns: int, *, log_changes: bool) -> None:
        """log_changes: whether changes are logged and kept; for unrelated pictures they mean nothing."""
        self.timeouts = timeouts
        self.state = State.STARTING
        self.ever_received = False
        self.events: list[dict[str, Any]] = []
        self._log_changes = log_changes
        self._began_ns: int | None = None
        """The time of the first state, from which the times of events count."""
        self._opened_ns = now_ns
        self._received_ns: int | None = None
        """The time of the last frame since opening."""
        self._interval_s = 0.0
        """The mean interval of the last frames; 0 before the second."""
        self._lost_ns: int | None = None
        """The time of the first attempt to open the camera again since its last frame."""
        self._attempts = 0
        """The number of attempts to open the camera again since its last frame."""

    def change(self, state: State, reason: str, now_ns: int) -> bool:
        """Set the state; return whether it changed. UNKNOWN counts as OK: the camera works, and classes come and go."""
        if self._began_ns is None:
            self._began_ns = now_ns
        if state is State.UNKNOWN:
            state = State.OK
        if state is self.state:
            return False
        at_s = (now_ns - self._began_ns) / 1e9
        if self._log_changes:
            if len(self.events) < EVENTS_KEPT:
                event = {"at_s": round(at_s, 3), "from": self.state.value, "to": state.value, "reason": reason}
                self.events.append(event)
            if not (self.state is State.STARTING and state is State.OK):
                log.info(f"{self.state} -> {state}: {reason}")
        self.state = state
        return True

    def opened(self, now_ns: int) -> None:
        """Note that the camera was opened again: its first frame may take longer."""
        self._opened_ns, self._received_ns = now_ns, None

    def frame_received(self, now_ns: int, nominal_s: float) -> None:
        """Note a frame and measure its interval. A gap counts as at most four nominal intervals."""
        self._attempts = 0
        self._lost_ns = None
        self.ever_received = True
        if self._received_ns is not None:
            # capped: one long gap in the mean would delay the next STALE
            interval_s = min((now_ns - self._received_ns) / 1e9, 4 * nominal_s)
            self._interval_s += 0.2 * (interval_s - self._interval_s)  # an exponential mean over about five frames
        self._received_ns = now_ns

    def stale_after_s(self, nominal_s: float) -> float:
        """Return how long the next frame may take."""
        # the longer one: a camera that is slower than it says would be STALE between any two frames
        return self.timeouts.stale_intervals * max(nominal_s, self._interval_s)

    def silent_ms(self, now_ns: int) -> float:
        """Return the time since the last frame; 0 where none came since opening."""
        return 0.0 if self._received_ns is None else (now_ns - self._received_ns) / 1e6

    def frame_missed(self, now_ns: int) -> tuple[State, str] | None:
        """Return the state of a camera whose frame did not come in time, and the reason; None while it starts."""
        if self._received_ns is None:
            if now_ns - self._opened_ns > self.timeouts.start_s * 1e9:
                return State.LOST, f"no frame within {self.timeouts.start_s:g} s of opening"
            return None
        silent_ms = self.silent_ms(now_ns)
        if silent_ms > self.timeouts.hung_s * 1e3:
            return State.LOST, f"no frame for {silent_ms / 1e3:.1f} s"
        return State.STALE, f"no frame for {silent_ms:.0f} ms"

    def next_pause_s(self, now_ns: int) -> float | None:
        """Count an attempt to open the camera again; return the pause before it, or None when it is given up."""
        if self._lost_ns is None:
            self._lost_ns = now_ns
        if now_ns - self._lost_ns >= self.timeouts.failed_s * 1e9:
            return None
        pause_s = self.timeouts.backoff_s * 2.0 ** min(self._attempts, 16)  # an exponent without limit overflows
        self._attempts += 1
        return min(pause_s, self.timeouts.longest_backoff_s)
