"""The status that the web page and Prometheus show: the last decision, counts since the start, the newest pictures."""

from __future__ import annotations

import json
from collections import Counter, defaultdict, deque
from dataclasses import dataclass
from threading import Lock
from time import monotonic_ns, time
from typing import Any

from core.machine import resident_mb
from inference.frame.decision import Decision, SinkStatus, Verdict
from inference.frame.detection.tracked_regions import NOT_A_NUMBER, TRACK
from inference.frame.run_stats import RunStats
from inference.frame.states import State

BUCKET_NS = 500_000_000
BUCKETS = 120
"""The sparklines cover a minute; each point is the worst of half a second."""
WATCHED_NS = 2_000_000_000
"""A client that asked within this time is watching."""
CACHED_NS = 90_000_000
"""The JSON of the page is made at most once in this time, for all clients together."""
PERCENTILES_NS = 1_000_000_000
SNAPSHOTS = 4
"""The number of pictures kept, so that a client can fetch the one that its JSON names."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One picture for the page. jpeg: upright, mirrored where camera.json says `mirror_for_people`."""

    number: int
    decision: Decision
    jpeg: bytes
    size: tuple[int, int]
    """Width and height of the frame, in which the rectangles are."""


@dataclass(slots=True)
class TimeBucket:
    """The worst values within half a second."""

    at: int
    """The number of half seconds since the start."""
    age_ms: float = 0.0
    work_ms: float | None = None
    """None without a new frame."""
    drops: int = 0


class LiveStatus:
    """The live status of a run, written by the sink's thread and read by the server's threads."""

    def __init__(
        self,
        classes: tuple[str, ...],
        about: dict[str, str],
        *,
        fixed_zones: bool = True,
        detector: bool = False,
        mirror: bool = False,
        restarts: int = 0,
    ) -> None:
        """detector: whether the regions are the tracks of a detector."""
        self.about, self.fixed_zones, self.mirror, self.restarts = about, fixed_zones, mirror, restarts
        self.detector = detector
        self.tracks = self.detector_failures = 0
        self.stats = RunStats(classes)
        self.state_changes: Counter[State] = Counter()
        self.age_sum_ms = 0.0
        self.stage_sums_ms: defaultdict[str, float] = defaultdict(float)
        self.last: Decision | None = None
        self.started_s = time()
        self.lock = Lock()
        self._last_ns = self._started_ns = monotonic_ns()
        self._buckets: deque[TimeBucket] = deque(maxlen=BUCKETS)
        self._snapshots: deque[Snapshot] = deque(maxlen=SNAPSHOTS)
        self._snapshot_count = 0
        self._asked_ns = -WATCHED_NS
        self._cache: tuple[int, bytes] | None = None
        self._percentiles_cache: tuple[int, dict[str, Any]] | None = None

    @property
    def state(self) -> State:
        """The state of the last decision."""
        return State.STARTING if self.last is None else self.last.state

    @property
    def sinks(self) -> tuple[SinkStatus, ...]:
        """All sinks of the run, as they were at the last decision."""
        return () if self.last is None else self.last.sinks

    @property
    def silent_ms(self) -> float:
        """The time since the last decision."""
        return (monotonic_ns() - self._last_ns) / 1e6

    def is_watched(self, now_ns: int) -> bool:
        """Return whether a client has asked for pictures lately."""
        return now_ns - self._asked_ns < WATCHED_NS

    def note_watcher(self) -> None:
        """Note that a client wants pictures."""
        self._asked_ns = monotonic_ns()

    def add(self, decision: Decision) -> None:
        """Take one decision."""
        # reading is waiting for the camera
        work_ms = sum(ms for name, ms in decision.stages_ms.items() if name != "read")
        with self.lock:
            self._last_ns = monotonic_ns()
            # counted here too: between two scrapes of Prometheus a state may come and go
            if self.last is None or decision.state is not self.last.state:
                self.state_changes[decision.state] += 1
            self.last = decision
            # a decision without a frame has no age and no stages that would count
            if decision.fresh:
                self.stats.add(decision)
                self.age_sum_ms += decision.age_ms
                for name, ms in decision.stages_ms.items():
                    self.stage_sums_ms[name] += ms
                if self.detector:
                    self._add_tracks(decision)
            at = (self._last_ns - self._started_ns) // BUCKET_NS
            if not self._buckets or self._buckets[-1].at != at:
                self._buckets.append(TimeBucket(at))
            bucket = self._buckets[-1]
            bucket.age_ms = max(bucket.age_ms, decision.age_ms)
            if decision.fresh:
                bucket.work_ms = max(bucket.work_ms or 0.0, work_ms)
            bucket.drops += decision.drops

    def _add_tracks(self, decision: Decision) -> None:
        # tracks are numbered from 1 and no number comes again: the highest is their count
        self.tracks = max([self.tracks, *(int(v.name.removeprefix(TRACK)) for v in decision.verdicts)])
        self.detector_failures += decision.reason == NOT_A_NUMBER

    def add_snapshot(self, decision: Decision, jpeg: bytes, size: tuple[int, int]) -> None:
        """Take the picture of a decision."""
        with self.lock:
            self._snapshot_count += 1
            self._snapshots.append(Snapshot(self._snapshot_count, decision, jpeg, size))

    def picture(self, number: int) -> bytes | None:
        """Return the JPEG of that number, the newest where it is gone, None where there is none yet."""
        # a copy: a deque that the sink's thread appends to must not be iterated over
        with self.lock:
            snapshots = list(self._snapshots)
        newest = snapshots[-1].jpeg if snapshots else None
        return next((s.jpeg for s in snapshots if s.number == number), newest)

    def as_json(self) -> bytes:
        """Return state.json."""
        now = monotonic_ns()
        # under the lock: twenty clients that ask at once wait for one JSON, which all of them get
        with self.lock:
            if self._cache is None or now - self._cache[0] > CACHED_NS:
                self._cache = (now, json.dumps(self._facts(now), separators=(",", ":")).encode())
            return self._cache[1]

    def _facts(self, now_ns: int) -> dict[str, Any]:
        # before the first decision the page opens too, and says STARTING
        last, snapshot = self.last, self._snapshots[-1] if self._snapshots else None
        stats = self.stats
        return {
            "schema": 1,
            "about": self.about,
            "state": self.state.value,
            "reason": "" if last is None else last.reason,
            "stamps": [] if last is None else list(last.stamps),
            "frame": None if last is None else last.frame_id,
            "age_ms": None if last is None else round(last.age_ms, 2),
            "age_basis": None if last is None else last.age_basis.value,
            "silent_ms": round((now_ns - self._last_ns) / 1e6, 1),
            "zones": [] if last is None else [_zone(v) for v in last.verdicts],
            "picture": None if snapshot is None else self._snapshot_json(snapshot),
            "frames": stats.frames,
            "drops": stats.drops,
            "percentiles": self._percentiles(now_ns),
            "spark": self._spark(now_ns),
            "sinks": [{"name": s.name, "dropped": s.dropped, "error": s.error} for s in self.sinks],
            "restarts": self.restarts,
            "uptime_s": round(time() - self.started_s, 1),
            "resident_mb": round(resident_mb(), 1),
        }

    def _percentiles(self, now_ns: int) -> dict[str, Any]:
        """Return percentiles that are at most a second old; over 65,536 values they take longer than all the rest."""
        if self._percentiles_cache is None or now_ns - self._percentiles_cache[0] > PERCENTILES_NS:
            found: dict[str, Any] = {"age_ms": self.stats.age.as_json()}
            for name in ("detect", "infer"):
                series = self.stats.stages.get(name)
                found[f"{name}_ms"] = series.as_json() if series else None
            self._percentiles_cache = (now_ns, found)
        return self._percentiles_cache[1]

    def _snapshot_json(self, snapshot: Snapshot) -> dict[str, Any]:
        width, height = snapshot.size
        zones = []
        for verdict in snapshot.decision.verdicts:
            x0, y0, x1, y1 = verdict.rect
            if self.mirror:
                x0, x1 = width - x1, width - x0
            rect = [round(x, 4) for x in (x0 / width, y0 / height, x1 / width, y1 / height)]
            zones.append({**_zone(verdict), "rect": rect})
        return {
            "number": snapshot.number,
            "frame": snapshot.decision.frame_id,
            "width": width,
            "height": height,
            "zones": zones,
        }

    def _spark(self, now_ns: int) -> dict[str, list[float | None]]:
        """Return the last minute, oldest first; None without a decision."""
        # by number: a bucket is made only when a decision comes, so a silent second leaves a gap in the line
        newest = (now_ns - self._started_ns) // BUCKET_NS
        found = {bucket.at: bucket for bucket in self._buckets}
        line = [found.get(at) for at in range(newest - BUCKETS + 1, newest + 1)]
        return {
            "age_ms": [None if b is None else round(b.age_ms, 1) for b in line],
            "work_ms": [None if b is None or b.work_ms is None else round(b.work_ms, 1) for b in line],
            "drops": [None if b is None else b.drops for b in line],
        }


def _zone(verdict: Verdict) -> dict[str, Any]:
    return {
        "name": verdict.name,
        "state": verdict.state.value,
        "label": verdict.label,
        "top": verdict.top,
        "prob": round(verdict.prob, 4),
        "why": verdict.reason,
    }
