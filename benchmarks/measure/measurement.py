"""Measure a run: candidates side by side, then the runner's own process, corruptions, frames, load, other seeds."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from time import perf_counter

from benchmarks.measure.artifacts import gather_artifacts
from benchmarks.measure.candidates import (
    Candidate,
    available_backends,
    candidate_of,
    list_candidates,
    list_unmeasured,
    open_bundles,
)
from benchmarks.measure.engines import build_engines
from benchmarks.measure.frames.measure import measure_frames
from benchmarks.measure.machine import describe_machine
from benchmarks.measure.measured_set import measure_side_by_side, open_side_by_side
from benchmarks.measure.profiles import Profile
from benchmarks.measure.robustness.measure import measure_robustness
from benchmarks.measure.seeds import bundles_of, find_seeds, measure_seeds
from benchmarks.measure.sizes import measure_other_sizes, open_other_sizes
from benchmarks.measure.speed.energy import measure_energies
from benchmarks.measure.speed.latency import CALLS_PER_TURN, WARM_UPS_PER_TURN
from benchmarks.measure.speed.runner_process import with_ages, with_cold_start
from benchmarks.measure.speed.sustained import summarize_sustained, sustain
from benchmarks.measure.speed.timed_frames import SYNTHETIC, choose_frames
from benchmarks.measure.threads import candidates_by_threads
from benchmarks.results.candidate import CandidateResult, NotMeasured, Unmeasured
from benchmarks.results.run import MachineFacts, PackFacts, Protocol, RunResults, Sustained
from core.bundle.contract import Bundle
from core.data.pack import Pack
from core.data.run_dir import Run
from core.errors import InputError
from core.geometry.frame import Bytes
from inference.runner.labeled_regions import FramesRequest

Rows = tuple[CandidateResult, ...]


@dataclass(frozen=True)
class Request:
    """The measurement that is asked for."""

    profile: Profile = field(default_factory=Profile)
    backends: Sequence[str] | None = None
    """None: all that can run here."""
    threads: tuple[int, ...] | None = None
    """None: for each candidate the count that is measured to be its best."""
    source: str | None = None
    """The source of the frames to time; None: the synthetic camera."""
    pack: Path | None = None
    """The path of the pack, where it has moved; None: as run.json says."""
    ood: Path | None = None
    """A folder of out-of-distribution images."""
    frames_of: Path | None = None
    """A pack with labeled frames; None: the run's own pack, where it holds some."""
    camera: Path | None = None
    """A camera.json, whose zones are measured on labeled frames; None: the pack's zones or boxes."""
    sustained_min: float = 0.0
    """Minutes of sustained load; 0 for none."""
    seeds: Sequence[Path] | None = None
    """Runs of other seeds; None: those beside the run that differ in the seed alone."""


@dataclass(frozen=True)
class Session:
    """All that is opened and built before anything is timed."""

    machine: MachineFacts
    """The machine, with its load before the measurement."""
    pack: Pack
    bundles: Mapping[str, Bundle]
    others: Sequence[Run]
    """Runs of other seeds."""
    source: str
    """The source of the frames, in words."""
    frames: Sequence[Bytes]
    """The pictures that are timed."""
    candidates: Sequence[Candidate]
    size_candidates: Sequence[Candidate]
    """Candidates from bundles of another input size."""
    unmeasured: Sequence[Unmeasured]


def measure(run: Run, request: Request) -> RunResults:
    """Measure the run: all but the ages of frames, which `measure_frame_ages` adds for those that need them."""
    seconds: dict[str, float] = {}
    with _timed(seconds, "engines and thread counts"):
        session = prepare(run, request)
    with _timed(seconds, "accuracy and latency"):
        found = measure_side_by_side(session.candidates, session.pack, session.frames, samples=request.profile.samples)
    with _timed(seconds, "cold starts"):
        rows = add_cold_starts(found.rows, session, request)
    with _timed(seconds, "robustness"):
        rows = add_robustness(rows, session, request)
    with _timed(seconds, "labeled frames"):
        rows = add_frames(rows, session, request)
    with _timed(seconds, "energy and sustained load"):
        rows, sustained = add_load(rows, session, request.sustained_min, found.noise.floor)
    with _timed(seconds, "other sizes"):
        wanted = request.profile.other_size_samples
        sizes = measure_other_sizes(session.size_candidates, session.frames, wanted) if session.size_candidates else ()
    with _timed(seconds, "other seeds"):
        seeds = measure_seeds(run, session.others, rows, session.pack)
    protocol = Protocol(session.source, CALLS_PER_TURN, WARM_UPS_PER_TURN, request.profile.describe_cuts(), seconds)
    pack = session.pack
    return RunResults(
        made_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        run=run.path.resolve().name,
        synthetic=pack.synthetic or any(bundle.synthetic for bundle in session.bundles.values()),
        machine=session.machine,
        pack=PackFacts(pack.fingerprint, pack.classes, pack.background),
        labels_n=pack.labels_n[pack.rows("test")],
        protocol=protocol,
        noise=found.noise,
        candidates=rows,
        unmeasured=(*session.unmeasured, *found.refused),
        other_sizes=sizes,
        seeds=seeds,
        sustained=sustained,
        artifacts=gather_artifacts(session.bundles, rows),
    )


def prepare(run: Run, request: Request) -> Session:
    """Open the run, build the engines, and find each candidate's threads. Raises InputError when nothing can run."""
    pack, bundles = run.open_pack(request.pack), open_bundles(run)
    backends = available_backends(request.backends)
    others = find_seeds(run, request.seeds)
    sizes = open_other_sizes(run) if request.profile.other_size_samples else {}
    candidates = list_candidates(bundles | sizes, backends)
    not_built = build_engines([*candidates, *list_candidates(bundles_of(others), backends)])
    absent = {(row.arch, row.precision, row.backend) for row in not_built}
    built = [c for c in candidates if (c.arch, c.precision, c.backend) not in absent]
    if not any(c.arch in bundles for c in built):
        why = f"; the first reason: {not_built[0].reason}" if not_built else ""
        raise InputError(f"no precision in the bundles of {run.path} runs on {', '.join(backends)}{why}")
    source, frames = choose_frames(request.source, bundles.values())
    able = candidates_by_threads(built, request.threads, frames)
    own, of_sizes = [c for c in able if c.arch in bundles], [c for c in able if c.arch in sizes]
    unmeasured = [*list_unmeasured(bundles, backends), *not_built]
    return Session(describe_machine(), pack, bundles, others, source, frames, own, of_sizes, unmeasured)


def add_cold_starts(rows: Rows, session: Session, request: Request) -> Rows:
    """Measure the cold start of every candidate that may be chosen."""
    source, times = request.source or SYNTHETIC, request.profile.cold_starts
    return tuple(
        with_cold_start(row, candidate_of(row, session.bundles), source, times) if row.selectable else row
        for row in rows
    )


def add_robustness(rows: Rows, session: Session, request: Request) -> Rows:
    """Measure the robustness of each network and precision; every backend that runs it gets the same figures."""
    profile = request.profile
    if not profile.corrupted_rows[1]:
        return rows
    fastest = pick_fastest(rows, session.bundles)
    ms_per_row = sum(row.latency.engine_ms.p50 for row in fastest)
    candidates = [candidate_of(row, session.bundles) for row in fastest]
    found = measure_robustness(candidates, ms_per_row, session.pack, request.ood, profile)
    other = NotMeasured("it was exported at another size")
    return tuple(replace(row, robustness=found.get((row.arch, row.precision), other)) for row in rows)


def add_frames(rows: Rows, session: Session, request: Request) -> Rows:
    """Measure each network and precision on labeled frames, those that are asked for or those of the pack."""
    most = request.profile.labeled_frames
    if not request.frames_of:
        if not most:
            return tuple(replace(row, frames=NotMeasured("this profile leaves it out")) for row in rows)
        if not session.pack.facts.get("frames"):
            return rows
    candidates = [candidate_of(row, session.bundles) for row in pick_fastest(rows, session.bundles)]
    asked = FramesRequest(request.frames_of, camera=request.camera, most=most or None)
    found = measure_frames(candidates, session.pack, asked)
    return tuple(replace(row, frames=found[row.arch, row.precision]) for row in rows)


def pick_fastest(rows: Rows, bundles: Mapping[str, Bundle]) -> list[CandidateResult]:
    """Return the row of the fastest backend for each network and precision: the answers of all backends are alike."""
    fastest: dict[tuple[str, str], CandidateResult] = {}
    for row in sorted(rows, key=lambda row: row.latency.engine_ms.p50):
        if bundles[row.arch].selectable:
            fastest.setdefault((row.arch, row.precision), row)
    return list(fastest.values())


def add_load(rows: Rows, session: Session, minutes: float, noise_floor: float) -> tuple[Rows, Sustained | NotMeasured]:
    """Measure the energy of a frame where there is a meter, and the sustained run where it is asked for."""
    selectable = [candidate_of(row, session.bundles) for row in rows if row.selectable]
    sustained: Sustained | NotMeasured = NotMeasured("it was not asked for")
    with open_side_by_side(selectable) as (opened, _):
        processors = {c.name: one for c, one in opened}
        energies_mj = measure_energies(processors, session.frames)
        if minutes and processors:
            sustained = summarize_sustained(minutes, sustain(processors, session.frames, minutes), noise_floor)
    return tuple(replace(row, energy_mj=energies_mj.get(row.name, row.energy_mj)) for row in rows), sustained


def measure_frame_ages(run: Run, results: RunResults, names: Collection[str], request: Request) -> RunResults:
    """Return the results with the ages of frames of these candidates, each in a run at the camera's rate."""
    seconds, bundles = dict(results.protocol.seconds), open_bundles(run)
    source, frames = request.source or SYNTHETIC, request.profile.paced_frames
    with _timed(seconds, "paced runs"):
        rows = tuple(
            with_ages(row, candidate_of(row, bundles), source, frames) if row.name in names else row
            for row in results.candidates
        )
    return replace(results, candidates=rows, protocol=replace(results.protocol, seconds=seconds))


@contextmanager
def _timed(seconds: dict[str, float], what: str) -> Iterator[None]:
    started = perf_counter()
    yield
    seconds[what] = round(seconds.get(what, 0.0) + perf_counter() - started, 1)
