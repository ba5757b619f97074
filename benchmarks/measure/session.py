"""Measure a run: the field side by side, then the car's own command, then weather and strangers."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.choose.rule import pareto
from benchmarks.measure.artifacts import gather_origins
from benchmarks.measure.candidates import Candidate, list_unmeasured, open_bundles, runnable
from benchmarks.measure.engines import build_engines
from benchmarks.measure.frames import frames_of
from benchmarks.measure.measured_set import Field, measure_field, open_field
from benchmarks.measure.profiles import Effort
from benchmarks.measure.robustness.measure import measure_robustness
from benchmarks.measure.seeds import find_seeds, measure_seeds
from benchmarks.measure.sizes import measure_other_sizes, open_other_sizes
from benchmarks.measure.speed.drive import DEFAULT_SOURCE, measure_ages, measure_cold_start
from benchmarks.measure.speed.energy import measure_energies
from benchmarks.measure.speed.sustained import describe_sustained, sustain
from benchmarks.measure.threads import candidates_by_threads
from benchmarks.results import compare_precisions, describe_run, evidence_of
from core.bundle.contract import Bundle, open_bundle
from core.data.pack import Pack
from core.data.run_dir import Run
from core.errors import CheckError, InputError
from core.geometry.frame import Bytes
from core.stats import summarise

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """What is to be measured, and how much of it."""

    effort: Effort = field(default_factory=Effort)
    backends: Sequence[str] | None = None
    """None: all that can run here."""
    threads: tuple[int, ...] | None = None
    """None: for each candidate the count that is measured to be its best."""
    source: str | None = None
    """Of the frames; None: the synthetic camera."""
    pack: Path | None = None
    strangers: Path | None = None
    ages_of_all: bool = False
    """The paced run of every candidate and not only of those on the front: the policy asks for ages."""
    sustained_min: float = 0.0
    """Minutes of sustained load; 0 for none."""
    seeds: Sequence[Path] | None = None
    """Runs of other seeds; None: those beside the run that differ in the seed alone."""


def measure(run: Run, request: Request) -> tuple[dict[str, Any], Field, Pack]:
    """Measure the run; return the results without the choice, the field, and the pack."""
    pack, effort = run.open_pack(request.pack), request.effort
    bundles = open_bundles(run)
    backends = runnable(request.backends)
    others = find_seeds(run, request.seeds)
    seconds: dict[str, float] = {}
    with _timing(seconds, "engines"):
        sizes = open_other_sizes(run) if effort.other_size_samples else {}
        not_built = build_engines(bundles | sizes | _bundles_of_seeds(others), backends)
    frames = frames_of(request.source)
    with _timing(seconds, "thread counts"):
        candidates = candidates_by_threads(bundles, backends, request.threads, frames)
    absent = {(row.arch, row.precision, row.backend): row.reason for row in not_built}
    candidates = [c for c in candidates if (c.arch, c.precision, c.backend) not in absent]
    if not candidates:
        why = next((f"; the first reason: {reason}" for reason in absent.values()), "")
        raise InputError(f"no precision in the bundles of {run.path} runs on {', '.join(backends)}{why}")
    with _timing(seconds, "accuracy and latency"):
        side_by_side = measure_field(candidates, pack, frames, samples=effort.samples)
    opened = [m.candidate for m in side_by_side.measured]
    unmeasured = [*list_unmeasured(bundles, backends), *not_built]
    results = describe_run(run, pack, side_by_side, unmeasured) | gather_origins(bundles)
    results["protocol"] |= {"source": request.source or DEFAULT_SOURCE, "cut": effort.describe_cuts()}
    mark_manifests(results)
    compare_precisions(results, {m.candidate.name: m.samples for m in side_by_side.measured})
    with _timing(seconds, "cold starts"):
        add_cold_starts(results, opened, effort)
    with _timing(seconds, "paced runs"):
        add_ages(results, opened, effort, request.ages_of_all)
    with _timing(seconds, "robustness"):
        add_robustness(results, opened, pack, request.strangers, effort)
    with _timing(seconds, "other sizes"):
        wanted = effort.other_size_samples
        results["other_sizes"] = measure_other_sizes(run, backends, request.threads, frames, wanted)
    with _timing(seconds, "other seeds"):
        able = [c for c, row in zip(opened, results["candidates"], strict=True) if row["selectable"]]
        results["seeds"] = measure_seeds(run, others, able, pack)
    add_under_load(results, opened, frames, request.sustained_min, seconds)
    results["seconds"] = {what: taken for what, taken in seconds.items() if taken >= 0.1}
    return results, side_by_side, pack


def _bundles_of_seeds(others: Sequence[Run]) -> dict[str, Bundle]:
    """Return {"ARCH of RUN": bundle} of the runs of other seeds."""
    found = [(other, arch, path) for other in others for arch, path in other.bundles().items()]
    return {f"{arch} of {other.path.name}": open_bundle(path) for other, arch, path in found}


def add_under_load(
    results: dict[str, Any],
    candidates: Sequence[Candidate],
    frames: Sequence[Bytes],
    minutes: float,
    seconds: dict[str, float],
) -> None:
    """Fill in the energy of a frame where there is a meter, and the sustained run where it is asked for."""
    rows = {row["name"]: row for row in results["candidates"]}
    able = [c for c in candidates if rows[c.name]["selectable"]]
    with open_field(able) as (opened, _):
        paths = {c.name: path for c, path in opened}
        with _timing(seconds, "energy"):
            for name, energy_mj in measure_energies(paths, frames).items():
                rows[name]["energy_mj"] = energy_mj
        if minutes and paths:
            with _timing(seconds, "sustained load"):
                body = sustain(paths, frames, minutes)
            results["sustained"] = describe_sustained(body, results["noise"]["floor"])


def mark_manifests(results: dict[str, Any]) -> None:
    """Write into each manifest whether its engine was measured here."""
    files = {(row["arch"], row["opened"].get("file")) for row in results["candidates"]}
    for manifest in results["passports"]:
        manifest["measured"] = (manifest["arch"], manifest.get("engine")) in files


def add_cold_starts(results: dict[str, Any], candidates: Sequence[Candidate], effort: Effort) -> None:
    """Fill in cold starts; what the car's runner refuses is not selectable."""
    for row, candidate in zip(results["candidates"], candidates, strict=True):
        if not row["selectable"]:
            continue
        log.info(f"cold start: {candidate.name}")
        try:
            row["cold_start_ms"] = measure_cold_start(candidate, results["protocol"]["source"], effort.cold_starts)
        except CheckError as error:
            row["selectable"], row["why_not"] = False, str(error)


def add_ages(results: dict[str, Any], candidates: Sequence[Candidate], effort: Effort, everyone: bool) -> None:
    """Fill in the ages of frames in a paced run, of everyone or of those that nobody beats."""
    if not effort.paced_frames:
        return
    rows = {row["name"]: row for row in results["candidates"]}
    able = [c for c in candidates if rows[c.name]["selectable"]]
    for candidate in able if everyone else pick_front(results, candidates):
        _add_age(results, rows[candidate.name], candidate, effort)


def add_age_of_chosen(results: dict[str, Any], candidate: Candidate, effort: Effort) -> None:
    """Fill in the ages of what goes to the car, when the front did not hold it: a faster one may be doubted."""
    row = next(row for row in results["candidates"] if row["name"] == candidate.name)
    if effort.paced_frames and row["age_ms"] is None:
        _add_age(results, row, candidate, effort)


def _add_age(results: dict[str, Any], row: dict[str, Any], candidate: Candidate, effort: Effort) -> None:
    log.info(f"paced run: {candidate.name}")
    row["age_ms"] = summarise(measure_ages(candidate, results["protocol"]["source"], effort.paced_frames))


def pick_front(results: dict[str, Any], candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return the candidates that nobody beats in both accuracy and median time, the fastest first."""
    by_name = {c.name: c for c in candidates}
    return [by_name[e.name] for e in pareto([e for e in evidence_of(results) if not e.why_not])]


def add_robustness(
    results: dict[str, Any], candidates: Sequence[Candidate], pack: Pack, strangers: Path | None, effort: Effort
) -> None:
    """Fill in the robustness of each network and precision, for every backend that runs it."""
    if not effort.corrupted_rows[1]:
        return
    ms_of = {row["name"]: row["latency"]["engine_ms"]["p50"] for row in results["candidates"]}
    found = measure_robustness(candidates, ms_of, pack, strangers, effort)
    for row in results["candidates"]:
        row["robustness"] = found.get((row["arch"], row["precision"]))


@contextmanager
def _timing(seconds: dict[str, float], what: str) -> Iterator[None]:
    started = perf_counter()
    yield
    seconds[what] = round(perf_counter() - started, 1)
