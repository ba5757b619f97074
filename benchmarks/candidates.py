"""What can be measured: every bundle x precision x backend of a run, and the engines that cannot be, by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inference import backends
from inference.contract import Bundle, onnx_name, open_bundle
from inference.errors import InputError
from inference.files import read_json
from inference.runs import Run


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

    def file_name(self, opened: dict[str, Any]) -> str:
        """Return the name of the file that runs, as the open backend describes it."""
        return str(opened.get("file") or onnx_name(self.precision))


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
    here = [name for name in wanted if backends.find(name).presence().here]
    if not here:
        reasons = "; ".join(f"{name}: {backends.find(name).presence().mend}" for name in wanted)
        raise InputError(f"no backend can run here ({reasons})")
    return here


def list_candidates(bundles: dict[str, Bundle], names: Sequence[str], threads: Sequence[int]) -> list[Candidate]:
    """Return every bundle x precision x backend x threads that can be opened here."""
    return [
        Candidate(arch, bundle, precision, backend, count)
        for arch, bundle in bundles.items()
        for precision in bundle.precisions
        for backend in names
        if precision in backends.find(backend).PRECISIONS
        for count in threads
    ]


def list_unmeasured(bundles: dict[str, Bundle], measured: Sequence[str]) -> list[Unmeasured]:
    """Return the engines of the bundles that cannot run here, and the backends that are not here."""
    rows = [
        Unmeasured(
            arch, str(facts.get("precision", file.name.split(".")[0])), _engine_backend(facts), _why(facts), facts
        )
        for arch, bundle in bundles.items()
        for file, facts in read_passports(bundle.path)
        if _engine_backend(facts) not in measured
    ]
    engines = {row.backend for row in rows}
    for name in backends.names():
        presence = backends.find(name).presence()
        if name not in {*measured, *engines, "null"} and not presence.here:
            rows.append(Unmeasured("all", "all", name, presence.reason, {}))
    return rows


def read_passports(bundle: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Return the passports beside the engines of a bundle folder, by file name."""
    return [(file, read_json(file, "build the engine again")) for file in sorted(bundle.glob("engines/*.json"))]


def _engine_backend(facts: dict[str, Any]) -> str:
    runtime = str(facts.get("runtime", "trt"))
    return "trt" if runtime.startswith("tensorrt") else runtime


def _why(facts: dict[str, Any]) -> str:
    target = facts.get("device") or facts.get("target") or facts.get("sm") or "its target device"
    return f"the engine is {facts.get('state', facts.get('status', 'built'))} for {target}, which is not here"
