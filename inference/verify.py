"""Verify a bundle: hashes, engines' passports, golden frames on every backend that is here."""

from __future__ import annotations

from dataclasses import dataclass

from inference import golden
from inference.backends import NotHereError, Presence, find, names, open_backend
from inference.contract import Bundle
from inference.errors import InputError
from inference.passport import FOLDER, load


@dataclass(frozen=True)
class Line:
    """One line of the table."""

    what: str
    result: str
    """passed, failed, or not here."""
    detail: str = ""


def verify(bundle: Bundle, backends: list[str] | None = None, threads: int | None = None) -> list[Line]:
    """Check everything that can be checked on this machine.

    Raises InputError naming the first file whose bytes are not those that were proved: nothing of it is then run.
    """
    for name in bundle.files:
        bundle.check_file(name)
    lines = [Line(f"{len(bundle.files)} files", "passed", "sha256 as in bundle.json")]
    lines += [_engine_line(bundle, path.name) for path in sorted((bundle.path / FOLDER).glob("*.engine"))]
    for name in backends or names():
        lines += _backend_lines(bundle, name, threads)
    return lines


def _engine_line(bundle: Bundle, name: str) -> Line:
    path = bundle.path / FOLDER / name
    try:
        passport = load(path, f"build it again: python -m inference build {bundle.path} --backend trt")
    except InputError as error:
        return Line(name, "failed", str(error))
    return Line(name, "passed", f"{passport.state}, {passport.runtime} {passport.version} for {passport.target}")


def _backend_lines(bundle: Bundle, name: str, threads: int | None) -> list[Line]:
    module = find(name)
    presence: Presence = module.presence()
    if not presence.here:
        return [Line(name, "not here", f"{presence.reason}: {presence.mend}")]
    lines = []
    for precision in bundle.precisions:
        if precision not in module.PRECISIONS:
            continue
        try:
            backend = open_backend(name, bundle, precision, threads=threads)
        except NotHereError as error:
            lines.append(Line(f"{name} {precision}", "not here", str(error)))
            continue
        try:
            rows = golden.check(bundle, name, backend, precision)
        finally:
            backend.close()
        for row in rows:
            verdict = "passed" if row.passed else "failed"
            lines.append(Line(f"{name} {precision}: {row.check}", verdict, f"{row.value:.3g}, limit {row.limit:g}"))
    return lines
