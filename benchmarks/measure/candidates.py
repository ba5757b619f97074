"""The candidates of a run, every bundle x precision x backend; and those that this machine cannot measure."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.results.artifacts import EngineFacts
from benchmarks.results.candidate import CandidateKey, Unmeasured
from core.bundle.contract import PRECISIONS, Bundle, open_bundle
from core.bundle.engine_manifest import FOLDER
from core.codec import from_json, known_keys
from core.data.run_dir import Run
from core.errors import InputError
from core.files import read_json
from inference import backends

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Candidate(CandidateKey):
    """One model file of a bundle on one backend. Candidates are measured; one of them is chosen and shipped."""

    bundle: Bundle

    @property
    def passed_gates(self) -> bool:
        """Whether the gates of its precision passed; else it may not be chosen."""
        return self.precision in self.bundle.precisions

    def size_bytes(self, file: str) -> int:
        """Return the size of the file that runs, by its name."""
        # an engine is not among the files of bundle.json: its own manifest binds it
        entry = self.bundle.files.get(file)
        return int(entry["bytes"]) if entry else (self.bundle.path / FOLDER / file).stat().st_size


def candidate_of(key: CandidateKey, bundles: Mapping[str, Bundle]) -> Candidate:
    """Return the candidate that a result belongs to."""
    return Candidate(key.arch, key.precision, key.backend, key.threads, bundles[key.arch])


def open_bundles(run: Run) -> dict[str, Bundle]:
    """Open every bundle of a run. Raises InputError when there is none."""
    found = {name: open_bundle(path) for name, path in run.bundles().items()}
    if not found:
        raise InputError(f"{run.path} holds no bundle: export it first with `python -m export {run.path}`")
    return found


def available_backends(names: Sequence[str] | None) -> list[str]:
    """Return the named backends that can run here; without names, all but null. Raises InputError when none can run."""
    for name in names or ():
        backends.find(name)  # for its error: a misspelled name is no unavailable backend
    # null answers nothing: it is measured only where it is named
    wanted = list(names) if names else [name for name in backends.names() if name != "null"]
    found = {name: backends.availability(name) for name in wanted}
    reasons = {name: f"{name} is not available ({p.reason}): {p.hint}" for name, p in found.items() if not p.available}
    if len(reasons) == len(wanted):
        raise InputError(f"no backend can run here; {'; '.join(reasons.values())}")
    for reason in reasons.values():
        log.info(reason)
    return [name for name in wanted if name not in reasons]


def list_candidates(bundles: Mapping[str, Bundle], names: Sequence[str]) -> list[Candidate]:
    """Return each precision that passed its gates, of each bundle, on each backend that has it, with one thread."""
    found = []
    # grouped by network and precision, the order of the report's tables
    for arch, bundle in bundles.items():
        for precision in PRECISIONS:
            if precision in bundle.precisions:
                supported = [name for name in names if precision in backends.find(name).PRECISIONS]
                found += [Candidate(arch, precision, name, 1, bundle) for name in supported]
    return found


def list_unmeasured(bundles: Mapping[str, Bundle], measured: Sequence[str]) -> list[Unmeasured]:
    """Return the engines of the bundles that cannot run here, and the backends that are not available."""
    absent = {name: backends.availability(name) for name in backends.names() if name not in {*measured, "null"}}
    unmeasured = [
        Unmeasured(arch, engine.precision, engine.backend, _unmeasured_reason(engine, absent))
        for arch, bundle in bundles.items()
        for engine in read_engines(arch, bundle)
        if engine.backend not in measured
    ]
    explained = {row.backend for row in unmeasured}
    for name, found in absent.items():
        if name not in explained and not found.available:
            unmeasured.append(Unmeasured("all", "all", name, f"{found.reason}: {found.hint}"))
    return unmeasured


def read_engines(arch: str, bundle: Bundle) -> list[EngineFacts]:
    """Return the engines beside a bundle as their manifests describe them, whether or not they fit this device."""
    engines = []
    for file in sorted((bundle.path / FOLDER).glob("*.json")):
        # not the manifest's own `load`, which refuses what it does not know exactly: the report lists it all the same
        manifest = known_keys(EngineFacts, read_json(file, "build the engine again"))
        facts = {**manifest, "arch": arch, "engine": file.stem}
        engines.append(from_json(EngineFacts, facts, str(file)))
    return engines


def _unmeasured_reason(engine: EngineFacts, absent: Mapping[str, backends.Availability]) -> str:
    found = absent.get(engine.backend)
    reason = found.reason if found and found.reason else "it is not among the --backends"
    built = f"its engine is {engine.state} by {engine.runtime} {engine.version}"
    return f"{built} for {engine.target}; {reason}"
