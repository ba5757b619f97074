"""Measures a run, stage after stage: accuracy, latency, cold start, robustness, labeled frames, load, sizes, seeds."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
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
from benchmarks.measure.engines import build_detector_engines, build_engines
from benchmarks.measure.frames.frame_accuracy import measure_frames
from benchmarks.measure.machine import describe_machine
from benchmarks.measure.measured_set import measure_side_by_side, open_side_by_side
from benchmarks.measure.profiles import Profile
from benchmarks.measure.robustness.file_robustness import measure_robustness
from benchmarks.measure.robustness.ood import list_pictures
from benchmarks.measure.seeds import bundles_of, find_seeds, measure_seeds
from benchmarks.measure.sizes import measure_other_sizes, open_other_sizes
from benchmarks.measure.speed.energy import measure_energies
from benchmarks.measure.speed.latency import CALLS_PER_TURN, WARM_UPS_PER_TURN
from benchmarks.measure.speed.runner_subprocess import with_ages, with_cold_start
from benchmarks.measure.speed.sustained import summarize_sustained, sustain
from benchmarks.measure.speed.timed_frames import TimedInput, choose_input
from benchmarks.measure.threads import candidates_by_threads
from benchmarks.results.candidate import CandidateResult, NotMeasured, Unmeasured
from benchmarks.results.run import MachineFacts, PackFacts, Protocol, RunResults, Sustained
from core.bundle.contract import Bundle
from core.data.pack import Pack, open_pack
from core.data.run_dir import Run
from core.errors import InputError
from core.geometry.camera_config import read_camera_config
from inference.runner.labeled_regions import FramesRequest

log = logging.getLogger(__name__)
Results = tuple[CandidateResult, ...]


@dataclass(frozen=True)
class Request:
    """The options of a measurement."""

    profile: Profile = field(default_factory=Profile)
    backends: Sequence[str] | None = None
    """None: all that can run here."""
    threads: tuple[int, ...] | None = None
    """None: the best count of each candidate, as measured."""
    source: str | None = None
    """The source of the frames to time; None: the golden frames of the bundles' detector, else the synthetic camera."""
    pack: Path | None = None
    """The pack, where it has moved; None: the path in run.json."""
    ood: Path | None = None
    """A folder of out-of-distribution images."""
    frames_of: Path | None = None
    """A pack with labeled frames; None: the run's own pack, where it holds some."""
    camera: Path | None = None
    """A camera.json with the regions that are timed, and measured on labeled frames."""
    sustained_min: float = 0.0
    """Minutes of sustained load; 0 for none."""
    seeds: Sequence[Path] | None = None
    """Runs of other seeds; None: the runs in the same folder that differ in the seed alone."""


@dataclass(frozen=True)
class Setup:
    """The inputs of a measurement, opened and built before anything is timed."""

    machine: MachineFacts
    """The machine, with its load before the measurement."""
    pack: Pack
    bundles: Mapping[str, Bundle]
    others: Sequence[Run]
    """Runs of other seeds."""
    timed: TimedInput
    candidates: Sequence[Candidate]
    size_candidates: Sequence[Candidate]
    """Candidates from bundles of another input size."""
    unmeasured: Sequence[Unmeasured]


def measure_run(run: Run, request: Request) -> RunResults:
    """Measure everything except frame ages, which `measure_frame_ages` adds for the candidates that need them."""
    seconds: dict[str, float] = {}
    with _timed(seconds, "engines and thread counts"):
        setup = prepare(run, request)
    with _timed(seconds, "accuracy and latency"):
        found = measure_side_by_side(setup.candidates, setup.pack, setup.timed, samples=request.profile.samples)
    with _timed(seconds, "cold starts"):
        results = add_cold_starts(found.results, setup, request)
    with _timed(seconds, "robustness"):
        results = add_robustness(results, setup, request)
    with _timed(seconds, "labeled frames"):
        results = add_frames(results, setup, request)
    # after the latency of the candidates, since it heats the device
    with _timed(seconds, "energy and sustained load"):
        results, sustained = add_load(results, setup, request.sustained_min, found.noise.floor)
    # apart from the candidates, whose timing they would disturb
    with _timed(seconds, "other sizes"):
        wanted = request.profile.other_size_samples
        sizes = measure_other_sizes(setup.size_candidates, setup.timed, wanted) if setup.size_candidates else ()
    with _timed(seconds, "other seeds"):
        seeds = measure_seeds(run, setup.others, results, setup.pack)
    timed = setup.timed
    cuts = request.profile.describe_cuts()
    protocol = Protocol(timed.source, CALLS_PER_TURN, WARM_UPS_PER_TURN, cuts, seconds, timed.regions)
    pack = setup.pack
    return RunResults(
        made_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        run=run.path.resolve().name,
        synthetic=pack.synthetic or any(bundle.synthetic for bundle in setup.bundles.values()),
        machine=setup.machine,
        pack=PackFacts(pack.fingerprint, pack.classes, pack.background),
        labels_n=pack.labels_n[pack.rows("test")],
        protocol=protocol,
        noise=found.noise,
        candidates=results,
        unmeasured=(*setup.unmeasured, *found.refused),
        other_sizes=sizes,
        seeds=seeds,
        sustained=sustained,
        artifacts=gather_artifacts(setup.bundles, results),
    )


def prepare(run: Run, request: Request) -> Setup:
    """Open the run, build the engines and pick the thread counts. Raises InputError when no candidate can run."""
    pack = run.open_pack(request.pack)
    bundles = open_bundles(run)
    check_inputs(request)  # before the engines, whose build takes minutes
    timed = choose_input(request.source, request.camera, bundles)
    backends = available_backends(request.backends)
    others = find_seeds(run, request.seeds)
    sizes = open_other_sizes(run) if request.profile.other_size_samples else {}
    # engines of all bundles are built now, those of other sizes and seeds too: a build between timings disturbs them
    candidates = list_candidates(bundles | sizes, backends)
    for_seeds = list_candidates(bundles_of(others), backends)
    not_built = build_engines([*candidates, *for_seeds], count_regions(pack, request, timed))
    build_detector_engines([*candidates, *for_seeds], timed.camera)
    failed = {(result.arch, result.precision, result.backend) for result in not_built}
    built = [c for c in candidates if (c.arch, c.precision, c.backend) not in failed]
    if not any(c.arch in bundles for c in built):
        reason = f"; the first reason: {not_built[0].reason}" if not_built else ""
        raise InputError(f"no precision in the bundles of {run.path} runs on {', '.join(backends)}{reason}")
    with_threads = candidates_by_threads(built, request.threads, timed)
    own = [c for c in with_threads if c.arch in bundles]
    other_sizes = [c for c in with_threads if c.arch in sizes]
    unmeasured = [*list_unmeasured(bundles, backends), *not_built]
    return Setup(describe_machine(), pack, bundles, others, timed, own, other_sizes, unmeasured)


def count_regions(pack: Pack, request: Request, timed: TimedInput) -> int:
    """Return the most regions of a frame that is timed or labeled. Raises InputError for `request.frames_of`."""
    camera, objects = timed.camera, [0]
    # frames that were asked for are refused here, before the engines are built; the pack's own are judged later
    with nullcontext() if request.frames_of else suppress(InputError):
        frames = FramesRequest().frames(open_pack(request.frames_of) if request.frames_of else pack)
        objects += [len(frame.objects) for frame in frames]
    return max(*objects, len(camera.zones), camera.detector.config.most if camera.detector else 0)


def check_inputs(request: Request) -> None:
    """Read what is used only late in the measurement. Raises InputError now, not after minutes of it."""
    if request.ood:
        list_pictures(request.ood)
    if request.frames_of and request.camera:
        read_camera_config(request.camera).check_upright(request.camera)


def add_cold_starts(results: Results, setup: Setup, request: Request) -> Results:
    """Measure the cold start of every selectable candidate."""
    # nothing is open in this process by now: the runner's process has the cores to itself
    times = request.profile.cold_starts
    bundles = setup.bundles
    with setup.timed.for_runner(1) as timed:
        return tuple(
            with_cold_start(result, candidate_of(result, bundles), timed, times) if result.selectable else result
            for result in results
        )


def add_robustness(results: Results, setup: Setup, request: Request) -> Results:
    """Measure the robustness of each network and precision; all its backends get the same figures."""
    profile = request.profile
    if not profile.corrupted_rows[1]:  # each result already says that the profile leaves it out
        return results
    # a network answers alike on all backends, within the tolerance of the golden frames: the fastest stands for all
    fastest = pick_fastest(results, setup.bundles)
    ms_per_row = sum(result.latency.engine_ms.p50 for result in fastest)
    candidates = [candidate_of(result, setup.bundles) for result in fastest]
    found = measure_robustness(candidates, ms_per_row, setup.pack, request.ood, profile)
    other_size = NotMeasured("it was exported at another size")
    return tuple(
        replace(result, robustness=found.get((result.arch, result.precision), other_size)) for result in results
    )


def add_frames(results: Results, setup: Setup, request: Request) -> Results:
    """Measure each network and precision on the labeled frames of the request, or else of the run's own pack."""
    most = request.profile.labeled_frames
    camera = setup.timed.camera
    if not request.frames_of and not setup.pack.metadata.get("frames"):
        return results
    if not request.frames_of and not most:
        return tuple(replace(result, frames=NotMeasured("this profile leaves it out")) for result in results)
    candidates = [candidate_of(result, setup.bundles) for result in pick_fastest(results, setup.bundles)]
    with_regions = request.camera if camera.zones or camera.detector else None
    found = {}
    otherwise = NotMeasured("it was exported at another size")
    try:
        asked = FramesRequest(request.frames_of, camera=with_regions, most=most)
        found = measure_frames(candidates, setup.pack, asked)
    except InputError as error:
        if request.frames_of:
            raise
        # nobody asked for them: a data set that has moved must not cost the whole measurement
        log.warning(f"the labeled frames of {setup.pack.path} are not measured: {error}")
        otherwise = NotMeasured(str(error))
    return tuple(replace(result, frames=found.get((result.arch, result.precision), otherwise)) for result in results)


def pick_fastest(results: Results, bundles: Mapping[str, Bundle]) -> list[CandidateResult]:
    """Return the result of the fastest backend of each network and precision.

    One backend is enough, since all of them answer alike within the tolerance of the golden frames.
    """
    fastest: dict[tuple[str, str], CandidateResult] = {}  # the first one of a key is kept: sorted, the fastest
    for result in sorted(results, key=lambda result: result.latency.engine_ms.p50):
        if bundles[result.arch].selectable:
            fastest.setdefault((result.arch, result.precision), result)
    return list(fastest.values())


def add_load(
    results: Results, setup: Setup, minutes: float, noise_floor: float
) -> tuple[Results, Sustained | NotMeasured]:
    """Measure the energy of a frame where the machine has a meter, and the sustained load of `minutes`, if above 0."""
    selectable = [candidate_of(result, setup.bundles) for result in results if result.selectable]
    sustained: Sustained | NotMeasured = NotMeasured("--sustained was not given")
    frames = setup.timed.frames
    # all at once: under load the candidates take turns
    with open_side_by_side(selectable, setup.timed.config) as (opened, _):
        processors = {candidate.name: processor for candidate, processor in opened}
        energies_mj = measure_energies(processors, frames)
        if minutes and processors:
            sustained = summarize_sustained(minutes, sustain(processors, frames, minutes), noise_floor)
    return tuple(
        replace(result, energy_mj=energies_mj.get(result.name, result.energy_mj)) for result in results
    ), sustained


def measure_frame_ages(run: Run, results: RunResults, names: Collection[str], request: Request) -> RunResults:
    """Return the results with the frame ages of these candidates, each from a run at the camera's rate."""
    seconds = dict(results.protocol.seconds)
    bundles = open_bundles(run)
    chosen = choose_input(request.source, request.camera, bundles)
    frames = request.profile.paced_frames
    # a candidate that is slower than the camera drops frames, so the runner needs more than it is to answer
    with _timed(seconds, "paced runs"), chosen.for_runner(2 * frames) as timed:
        candidates = tuple(
            with_ages(result, candidate_of(result, bundles), timed, frames) if result.name in names else result
            for result in results.candidates
        )
    return replace(results, candidates=candidates, protocol=replace(results.protocol, seconds=seconds))


@contextmanager
def _timed(seconds: dict[str, float], what: str) -> Iterator[None]:
    started = perf_counter()
    yield
    # added up: paced runs are made again where the choice changes
    seconds[what] = round(seconds.get(what, 0.0) + perf_counter() - started, 1)
