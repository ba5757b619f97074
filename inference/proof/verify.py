"""Verify a bundle: hashes, engines' manifests, golden frames on every available backend."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from core.bundle import golden_file
from core.bundle.contract import Bundle
from core.bundle.engine_manifest import check_engine, engines_of
from core.errors import InputError, as_device_error, check_threads
from inference.backends import Backend, UnavailableError, availability, find, names, open_backend, options_by_backend
from inference.proof import detector_run, golden_run


@dataclass(frozen=True)
class CheckResult:
    """One line of the table."""

    what: str
    result: str
    """passed, failed, or unavailable."""
    detail: str = ""
    backend: str = ""
    """The backend that was asked for golden frames; empty for a check that runs no network."""


def without_proof(lines: Sequence[CheckResult], backends: Sequence[str] | None) -> str:
    """Return what has passed no golden frame: the first such backend of those named, or "any backend".

    backends: those that were named; None for all. Empty where each of them, or of all at least one, has passed some.
    """
    passed = {line.backend for line in lines if line.result == "passed"}
    if backends:
        return next((name for name in backends if name not in passed), "")
    # the null backend has no network
    return "" if passed - {"", "null"} else "any backend of this machine"


def verify(
    bundle: Bundle, backends: list[str] | None = None, threads: int | None = None, options: Sequence[str] = ()
) -> list[CheckResult]:
    """Check all that can be checked on this machine. options: `name=value` texts, for the backends that know them.

    Raises InputError naming the first file whose bytes are not those that were proved, before any file is run.
    """
    check_threads(threads)
    options_of = options_by_backend(backends or names(), options)
    # before anything is opened: a runtime that reads a damaged file may crash or answer wrongly
    bundle.check_files()
    lines = [CheckResult(f"{len(bundle.files)} files", "passed", "sha256 as in bundle.json")]
    lines += [line for name, own in options_of.items() for line in _backend_lines(bundle, name, threads, own)]
    # last, since a proof that was just written changes what a manifest says
    lines[1:1] = [_engine_line(bundle, engine) for engine in engines_of(bundle)]
    return lines


def check_files_and_engines(bundle: Bundle) -> None:
    """Raise InputError naming the first file, engines among them, that is not the one that was proved or built."""
    bundle.check_files()
    for engine in engines_of(bundle):
        check_engine(bundle, engine)


def prove_backend(bundle: Bundle, name: str, backend: Backend, precision: str) -> list[golden_file.GoldenCheck]:
    """Run all golden frames through an open backend, at every batch size that it has kernels of its own for.

    Returns one row a check; where all passed, the engine's manifest says so.
    """
    sizes = backend.batch_sizes
    rows = list[golden_file.GoldenCheck]()
    for size in sizes:
        what = f", batch {size}" if len(sizes) > 1 else ""
        checked = golden_run.check_golden(bundle, name, backend, precision, batch=size)
        rows += [replace(row, check=f"{row.check}{what}") for row in checked]
    if all(row.passed for row in rows):
        backend.mark_proved()
    return rows


def _engine_line(bundle: Bundle, engine: Path) -> CheckResult:
    """Check an engine against its manifest and the bundle, whether or not it can run here."""
    try:
        manifest = check_engine(bundle, engine)
    except InputError as error:
        return CheckResult(engine.name, "failed", str(error))
    on = f" on {manifest.proved_on['name']}" if manifest.proved_on else ""
    detail = f"{manifest.state}{on}, {manifest.runtime} {manifest.version} for {manifest.target}"
    return CheckResult(engine.name, "passed", detail)


def _backend_lines(bundle: Bundle, name: str, threads: int | None, options: list[str]) -> list[CheckResult]:
    found = availability(name)
    if not found.available:
        return [CheckResult(name, "unavailable", f"{found.reason}: {found.hint}", name)]
    able = [precision for precision in bundle.precisions if precision in find(name).PRECISIONS]
    lines = [line for precision in able for line in _golden_lines(bundle, name, precision, threads, options)]
    lines = [replace(line, backend=name) for line in lines]
    return lines + _detector_lines(bundle, name, threads)


def _detector_lines(bundle: Bundle, name: str, threads: int | None) -> list[CheckResult]:
    """Return a line a check of the bundle's detector, on a backend that runs detectors."""
    if bundle.detector is None or not hasattr(find(name), "open_network"):
        return []
    try:
        return _lines(f"{name} detector", detector_run.check_file(bundle, name, threads))
    except UnavailableError as error:
        return [CheckResult(f"{name} detector", "unavailable", str(error))]
    except Exception as error:  # a runtime may raise anything
        return [CheckResult(f"{name} detector", "failed", str(as_device_error(error, f"{name} detector")))]


def _lines(what: str, rows: Iterable[golden_file.GoldenCheck]) -> list[CheckResult]:
    return [
        CheckResult(
            f"{what}: {row.check}", "passed" if row.passed else "failed", f"{row.value:.3g}, limit {row.limit:g}"
        )
        for row in rows
    ]


def _golden_lines(
    bundle: Bundle, name: str, precision: str, threads: int | None, options: list[str]
) -> list[CheckResult]:
    """Return one result for each check of a precision; one that cannot run here, or fails, does not stop the others."""
    what = f"{name} {precision}"
    try:
        with open_backend(name, bundle, precision, threads=threads, options=options) as backend:
            rows = prove_backend(bundle, name, backend, precision)
    except UnavailableError as error:
        return [CheckResult(what, "unavailable", str(error))]
    except Exception as error:  # a runtime may raise anything
        return [CheckResult(what, "failed", str(as_device_error(error, what)))]
    return _lines(what, rows)
