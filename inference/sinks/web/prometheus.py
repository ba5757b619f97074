"""The live status in Prometheus' text format, version 0.0.4.

Source: https://prometheus.io/docs/instrumenting/exposition_formats: UTF-8, lines end in a line feed, HELP and TYPE once
a metric and before its samples, all samples of a metric together, label values escaped; base units (seconds, bytes).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from core.geometry.frame import AgeBasis
from core.machine import descriptors, resident_mb, threads
from inference.frame.run_stats import LatencySeries
from inference.frame.states import State
from inference.sinks.web.live_status import LiveStatus

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Sample = tuple[str, Mapping[str, str], float]
"""What comes after the metric's name, the labels, the value."""


def metrics(status: LiveStatus) -> bytes:
    """Return the page that Prometheus reads."""
    # one lock around all of them, so that the figures of one page belong together
    with status.lock:
        lines = [line for metric in _metrics(status) for line in metric]
    return ("\n".join(lines) + "\n").encode()


def _metrics(status: LiveStatus) -> Iterable[list[str]]:
    stats, last = status.stats, status.last
    yield _metric("info", "gauge", "The model and its contract.", [("", status.about, 1)])
    states = [("", {"state": s.value}, float(s is status.state)) for s in State]
    yield _metric("state", "gauge", "1 for the current state, 0 for every other.", states)
    changes = [("", {"state": s.value}, status.state_changes[s]) for s in State]
    yield _metric("state_changes_total", "counter", "Changes to each state.", changes)
    yield _metric("silent_seconds", "gauge", "Time since the last decision.", [("", {}, status.silent_ms / 1e3)])
    yield _metric("frames_total", "counter", "Processed frames.", [("", {}, stats.frames)])
    yield _metric("drops_total", "counter", "Frames of the camera that were not processed.", [("", {}, stats.drops)])
    decided = [("", {"state": s.value}, stats.states[s.value]) for s in State]
    yield _metric("decisions_total", "counter", "Processed frames by their state.", decided)
    yield from _summary(
        "age",
        "Time from capture or arrival, as age_basis_total says, to the decision.",
        stats.age.as_json(),
        status.age_sum_ms,
        stats.frames,
    )
    bases = [("", {"basis": b.value}, stats.age_bases[b.value]) for b in AgeBasis]
    yield _metric("age_basis_total", "counter", "Processed frames by the event that their age counts from.", bases)
    yield from _stage(status, "infer", "Duration of the network.")
    if status.detector:
        yield from _detector(status)
    # for fixed zones alone: each track would be a time series of its own, which Prometheus keeps for weeks
    if status.fixed_zones and last is not None:
        probs = [("", {"zone": v.name}, v.prob) for v in last.verdicts]
        yield _metric("zone_probability", "gauge", "Probability of the leading class of each zone.", probs)
        said = [("", {"zone": v.name, "label": v.label or v.state.value}, 1) for v in last.verdicts]
        yield _metric("zone_said", "gauge", "1 for the class of each zone, or for its state without one.", said)
    dropped = [("", {"sink": s.name}, s.dropped) for s in status.sinks]
    yield _metric("sink_drops_total", "counter", "Decisions that a sink dropped.", dropped)
    working = [("", {"sink": s.name}, s.error is None) for s in status.sinks]
    yield _metric("sink_up", "gauge", "1 where a sink works, 0 where it is off.", working)
    yield _metric("restarts_total", "counter", "Restarts of the worker process.", [("", {}, status.restarts)])
    yield from _process(status)


def _detector(status: LiveStatus) -> Iterable[list[str]]:
    """Yield the figures of the detector in front."""
    yield from _stage(status, "detect", "Duration of the detector and of tracking, in every frame.")
    now = 0 if status.last is None else len(status.last.verdicts)
    yield _metric("boxes", "gauge", "Boxes in the last frame, each of a track.", [("", {}, now)])
    said = [("", {"said": name}, n) for name, n in status.stats.said.items()]
    yield _metric("boxes_total", "counter", "Boxes by their class, or by what kept it from being told.", said)
    yield _metric("tracks_total", "counter", "Objects that were tracked.", [("", {}, status.tracks)])
    text = "Frames without boxes because the detector gave NaN."
    yield _metric("detector_failures_total", "counter", text, [("", {}, status.detector_failures)])


def _stage(status: LiveStatus, name: str, text: str) -> Iterable[list[str]]:
    series = status.stats.stages.get(name, LatencySeries())
    yield from _summary(name, text, series.as_json(), status.stage_sums_ms[name], series.n)


def _summary(
    name: str, text: str, series: Mapping[str, float] | None, sum_ms: float, count: int
) -> Iterable[list[str]]:
    """Yield a summary in seconds and, since a summary has none, the maximum as a gauge."""
    found = series or {}
    # NaN without a sample, as Prometheus' own clients write it
    quantiles = {"0.5": found.get("p50", math.nan), "0.99": found.get("p99", math.nan)}
    samples: list[Sample] = [("", {"quantile": q}, ms / 1e3) for q, ms in quantiles.items()]
    samples += [("_sum", {}, sum_ms / 1e3), ("_count", {}, count)]
    yield _metric(f"{name}_seconds", "summary", f"{text} Quantiles over the last 65536 frames.", samples)
    if series:
        yield _metric(f"{name}_max_seconds", "gauge", f"{text} The maximum.", [("", {}, series["max"] / 1e3)])


def _process(status: LiveStatus) -> Iterable[list[str]]:
    """Yield the facts of the process under the names that every exporter gives them."""
    for name, text, value in (
        ("process_resident_memory_bytes", "Resident memory size in bytes.", resident_mb() * 1e6),
        ("process_open_fds", "Number of open file descriptors.", descriptors()),
        ("process_threads", "Number of threads.", threads()),
        ("process_start_time_seconds", "Start of the session since the Unix epoch in seconds.", status.started_s),
    ):
        yield _metric(name, "gauge", text, [("", {}, value)], prefix="")


def _metric(name: str, kind: str, text: str, samples: Iterable[Sample], prefix: str = "rearguard_") -> list[str]:
    name = prefix + name
    lines = [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
    for suffix, labels, value in samples:
        inner = ",".join(f'{key}="{escaped(text)}"' for key, text in labels.items())
        braced = f"{{{inner}}}" if inner else ""
        lines.append(f"{name}{suffix}{braced} {number(value)}")
    return lines


def escaped(value: str) -> str:
    """Return a label's value as it stands between its quotes."""
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def number(value: float) -> str:
    """Return a value as Go's ParseFloat reads it."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return repr(int(value)) if value == int(value) else repr(float(value))
