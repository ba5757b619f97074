"""Runs the loop of the camera: reads frames, processes them, watches the camera and posts decisions to the sinks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Event
from time import monotonic_ns, perf_counter_ns
from typing import Any, NoReturn

from core.errors import DeviceError, InputError, as_device_error
from core.geometry.frame import Bytes, Frame
from core.machine import ms_since_start, resident_mb
from core.redact import public_text
from inference.capture.base import EndOfStream, NotReopenable, Source, SourceLost
from inference.frame.decision import Decision, SinkStatus
from inference.frame.processor import FrameProcessor, FrameResult
from inference.frame.run_stats import RunStats
from inference.frame.states import State
from inference.runner.camera_health import CameraHealth, HealthTimeouts
from inference.runner.heartbeats import SINGLE_PROCESS, RunnerProcess
from inference.runner.sink_worker import SinkWorker

RECORDED_TIMEOUT_S = 2.0
"""The time a recorded source has for a frame. If it takes longer, it is read again: only a camera can be stale."""
REPEAT_NS = 1_000_000_000
"""While there is no frame, a decision that says so is posted at least this often."""
HEARTBEAT_S = 0.5
"""While the runner waits for a camera to come back, its heartbeats come at least this often."""


@dataclass(frozen=True)
class RunnerConfig:
    """The settings of a runner."""

    stamps: tuple[str, ...] = ()
    """Marks that every decision carries: synthetic, unproved_regions, unproved_detector."""
    timeouts: HealthTimeouts = field(default_factory=HealthTimeouts)
    process: RunnerProcess = SINGLE_PROCESS
    """This process, as its supervisor knows it."""


class Runner:
    """Runs an open source through a frame processor. One thread runs it; any thread may set `stop`."""

    def __init__(
        self,
        processor: FrameProcessor,
        source: Source,
        sinks: Sequence[SinkWorker] = (),
        config: RunnerConfig | None = None,
    ) -> None:
        self._processor = processor
        self._source = source
        self._sinks = sinks
        self._config = config or RunnerConfig()
        self._health = CameraHealth(self._config.timeouts, monotonic_ns(), log_changes=source.sequence)
        self._last_id = -1
        self._state_posted_ns = monotonic_ns()
        self.stop = Event()
        self.stats = RunStats(processor.classes)
        self.cold_start_ms: float | None = None

    def run(self, frames: int | None = None) -> None:
        """Process frames until the source ends, `frames` are done, or `stop` is set.

        Raises DeviceError for every error, after FAILED was posted; but an InputError before the first frame as it is.
        """
        try:
            self._run(frames)
        except Exception as error:  # the exceptions of runtimes, drivers and plug-ins share no base
            # Ctrl-C is no Exception: it ends the run without FAILED
            if isinstance(error, InputError) and not self._health.ever_received:
                raise  # before its first frame, a source finds that the command is wrong: exit code 2
            self._fail(error)

    def _run(self, frames: int | None) -> None:
        while not self.stop.is_set() and (frames is None or self.stats.frames < frames):
            # before the read, the longest wait of the loop: the supervisor then knows that the loop runs
            self._config.process.report_state(self._health.state)
            started = perf_counter_ns()
            try:
                frame = self._source.read(self._timeout_s())
            except EndOfStream:
                return
            except SourceLost as error:
                self._reconnect(str(error))
                continue
            if frame is None:
                self._handle_missing()
            else:
                self._handle_frame(frame, perf_counter_ns() - started)

    def _timeout_s(self) -> float:
        return self._health.stale_after_s(1 / self._source.fps) if self._source.live else RECORDED_TIMEOUT_S

    def _handle_frame(self, frame: Frame, read_ns: int) -> None:
        self._health.frame_received(monotonic_ns(), 1 / self._source.fps)
        result = self._processor.process(frame)
        decision = self._decision_of(result, read_ns)
        if self.cold_start_ms is None:
            self.cold_start_ms = ms_since_start(self._config.process.start_pid)
        self._health.change(decision.state, decision.full_reason, monotonic_ns())
        self._post(decision, result.picture_bgr)
        self.stats.add(decision)

    def _decision_of(self, result: FrameResult, read_ns: int) -> Decision:
        frame, timings = result.frame, result.timings
        # a replay knows how many were dropped when it was recorded; a camera's ids have a gap for each dropped frame
        drops = frame.drops
        if drops is None:
            drops = frame.frame_id - self._last_id - 1 if self._source.live else 0
        self._last_id = frame.frame_id
        detect_ns = {"detect": timings.detect_ns} if timings.detect_ns else {}
        stages_ns = {"read": read_ns, **detect_ns, "pre": timings.pre_ns, "infer": timings.infer_ns}
        stages_ns["rest"] = timings.rest_ns
        return Decision(
            frame_id=frame.frame_id,
            captured_ns=frame.captured_ns,
            age_ms=(monotonic_ns() - frame.captured_ns) / 1e6,
            age_basis=frame.age_basis,
            drops=max(drops, 0),  # a recording that was damaged may hold a negative number
            state=result.state,
            verdicts=result.verdicts,
            media_ms=frame.media_ns / 1e6,
            name=frame.name,
            stamps=self._config.stamps,
            stages_ms={name: ns / 1e6 for name, ns in stages_ns.items()},
            reason=result.reason,
            sinks=self._statuses(),
        )

    def _handle_missing(self) -> None:
        """Post STALE when no frame came in time; open a camera again that hangs for too long."""
        if not self._source.live:
            return
        # the smoothed probabilities are older than STALE allows: they say nothing about the next frame
        self._processor.reset()
        if (missed := self._health.frame_missed(monotonic_ns())) is None:
            return
        state, reason = missed
        if state is State.LOST:
            self._reconnect(reason)
        else:
            self._post_state(state, reason)

    def _reconnect(self, reason: str) -> None:
        """Post LOST, wait, open the camera again. Raises DeviceError when that failed for too long."""
        self._processor.reset()
        self._post_state(State.LOST, reason)
        pause_s = self._health.next_pause_s(monotonic_ns())
        if pause_s is None:
            raise DeviceError(f"the camera stays lost ({reason}): look at its cable or its address")
        if self._wait(pause_s):
            return
        try:
            self._source.reopen()
        except NotReopenable:
            raise DeviceError(f"the source is lost ({reason}): look at its cable or its file") from None
        self._health.opened(monotonic_ns())

    def _wait(self, pause_s: float) -> bool:
        """Wait, with heartbeats; return whether the run was stopped meanwhile."""
        until = monotonic_ns() + round(pause_s * 1e9)
        while (left_s := (until - monotonic_ns()) / 1e9) > 0 and not self.stop.is_set():
            self._config.process.report_state(self._health.state)
            self.stop.wait(min(left_s, HEARTBEAT_S))
        return self.stop.is_set()

    def _fail(self, error: Exception) -> NoReturn:
        """Report FAILED to the sinks and to the supervisor, then raise DeviceError."""
        failure = as_device_error(error, "the runner")
        self._post_state(State.FAILED, str(failure))
        self._config.process.report_state(State.FAILED)
        raise failure from error

    def _post_state(self, state: State, reason: str) -> None:
        """Post a decision without a frame: at each change of state, then once a second."""
        # a driver's message may repeat the URI with its password
        now, reason = monotonic_ns(), public_text(reason)
        if not self._health.change(state, reason, now) and now - self._state_posted_ns < REPEAT_NS:
            return
        self._state_posted_ns = now
        decision = Decision(
            frame_id=self._last_id,
            captured_ns=now,
            age_ms=self._health.silent_ms(now),
            drops=0,
            state=state,
            verdicts=(),
            media_ms=now / 1e6,
            stamps=self._config.stamps,
            reason=reason,
            fresh=False,
            sinks=self._statuses(),
        )
        self._post(decision, None)

    def _post(self, decision: Decision, picture_bgr: Bytes | None) -> None:
        for sink in self._sinks:
            sink.submit(decision, picture_bgr)

    def _statuses(self) -> tuple[SinkStatus, ...]:
        return tuple([sink.status for sink in self._sinks])

    def summary(self) -> dict[str, Any]:
        """Return the part of summary.json that the runner knows."""
        cold = None if self.cold_start_ms is None else round(self.cold_start_ms, 1)
        return {
            **self.stats.as_json(),
            "events": self._health.events,
            "cold_start_ms": cold,
            "resident_mb": round(resident_mb(), 1),
            "sinks": {
                status.name: {"written": status.written, "dropped": status.dropped, "error": status.error}
                for status in self._statuses()
            },
        }
