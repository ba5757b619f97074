"""What can be measured: every bundle x precision x backend of a run, and the engines that cannot be, by name."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.bundle.contract import PRECISIONS, Bundle, open_bundle
from core.bundle.engine_manifest import FOLDER
from core.data.run_dir import Run
from core.errors import InputError
from core.files import read_json
from inference import backends

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Candidate:
    """One file of a bundle on one backend: what is measured, chosen and shipped."""

    arch: str
    """The folder of the architecture inside the run."""
    bundle: Bundle
    precision: str
    backend: str
    threads: int

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise InputError(f"threads is {self.threads}: give 1 or more")

    @property
    def name(self) -> str:
        """A name that is unique in the run."""
        return f"{self.arch} {self.precision} {self.backend} x{self.threads}"

    @property
    def proved(self) -> bool:
        """Whether its precision's gates passed: only then may it be chosen."""
        return self.precision in self.bundle.precisions

    def bytes(self, opened: dict[str, Any]) -> int:
        """Return the size of the file that runs, which the open backend names."""
        name = str(opened["file"])
        entry = self.bundle.files.get(name)
        return int(entry["bytes"]) if entry else (self.bundle.path / FOLDER / name).stat().st_size


@dataclass(frozen=True)
class Unmeasured:
    """A row of the report that could not be measured here, and why."""

    arch: str
    precision: str
    backend: str
    reason: str
    facts: dict[str, Any]


def open_bundles(run: Run) -> dict[str, Bundle]:
    """Open every bundle of a run. Raises InputError when there is none."""
    found = {name: open_bundle(path) for name, path in run.bundles().items()}
    if not found:
        raise InputError(f"{run.path} holds no bundle: export it first with `python -m export {run.path}`")
    return found


def runnable(names: Sequence[str] | None) -> list[str]:
    """Return the backends to measure, the named ones or all but null. Raises InputError when none can run."""
    for name in names or ():
        backends.find(name)
    wanted = list(names) if names else [name for name in backends.names() if name != "null"]
    found = {name: backends.availability(name) for name in wanted}
    reasons = {name: f"{name} is not available ({p.reason}): {p.hint}" for name, p in found.items() if not p.available}
    if len(reasons) == len(wanted):
        raise InputError(f"no backend can run here; {'; '.join(reasons.values())}")
    for reason in reasons.values():
        log.info(reason)
    return [name for name in wanted if name not in reasons]


def list_candidates(bundles: dict[str, Bundle], names: Sequence[str], threads: Sequence[int]) -> list[Candidate]:
    """Return every bundle x precision x backend x threads that can be opened here."""
    return [
        Candidate(arch, bundle, precision, backend, count)
        for arch, bundle in bundles.items()
        for precision in PRECISIONS
        for backend in names
        if precision in backends.find(backend).PRECISIONS and precision in bundle.precisions
        for count in threads
    ]


def list_unmeasured(bundles: dict[str, Bundle], measured: Sequence[str]) -> list[Unmeasured]:
    """Return the engines of the bundles that cannot run here, and the backends that are unavailable."""
    absent = {name: backends.availability(name) for name in backends.names() if name not in {*measured, "null"}}
    rows = [
        Unmeasured(arch, str(facts.get("precision")), _backend_of(facts), _why(facts, absent), facts)
        for arch, bundle in bundles.items()
        for _, facts in read_manifests(bundle.path)
        if _backend_of(facts) not in measured
    ]
    engines = {row.backend for row in rows}
    return rows + [
        Unmeasured("all", "all", name, f"{availability.reason}: {availability.hint}", {})
        for name, availability in absent.items()
        if name not in engines and not availability.available
    ]


def read_manifests(bundle: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Return (engine, its manifest) of the engines of a bundle folder, by file name."""
    files = sorted((bundle / FOLDER).glob("*.json"))
    return [(file.with_suffix(""), read_json(file, "build the engine again")) for file in files]


def _backend_of(manifest: dict[str, Any]) -> str:
    runtime = str(manifest.get("runtime", "trt"))
    return "trt" if runtime.startswith("tensorrt") else runtime


def _why(manifest: dict[str, Any], absent: dict[str, backends.Availability]) -> str:
    built = f"its engine is {manifest.get('state')} by {manifest.get('runtime')} {manifest.get('version')}"
    availability = absent.get(_backend_of(manifest))
    reason = availability.reason if availability and availability.reason else "it was not asked for"
    return f"{built} for {manifest.get('target')}; {reason}"
