"""Chooses the backend and the precision of a bundle where the command does not name them."""

from __future__ import annotations

import logging

from core.bundle.contract import PRECISIONS, Bundle
from core.errors import InputError
from inference import backends

log = logging.getLogger(__name__)


def pick_backend_and_precision(bundle: Bundle, backend: str | None, precision: str | None) -> tuple[str, str]:
    """Return the backend and the precision to open: those that the command names, else those of the production choice.

    Without either, the backend is ort, or the next available one, and the precision the first of int8, fp32 and fp16
    that passed its gates. Raises InputError for a precision that the bundle lacks or whose gates failed.
    """
    choice = bundle.choice
    if backend is None:
        backend = first_available(bundle, choice.backend if choice else "ort", precision)
    supported = backends.find(backend).PRECISIONS
    passed = bundle.precisions
    if precision is None and choice and choice.precision in supported:
        precision = choice.precision
    if precision is None:
        usable = [name for name in ("int8", "fp32", *PRECISIONS) if name in {*passed} & {*supported}]
        precision = usable[0] if usable else "fp32"
    if precision not in PRECISIONS:
        raise InputError(f"there is no precision {precision!r}: choose from {', '.join(passed)}")
    # null runs no file, so it needs none that passed
    if backend != "null":
        bundle.check_precision(precision)
    return backend, precision


def first_available(bundle: Bundle, wanted: str, precision: str | None) -> str:
    """Return `wanted`, or, where it is not available, the first backend that is and has a precision to run.

    Warns of each unavailable one. Where none is available, `wanted` is returned, and opening it raises the error.
    """
    loaded = backends.usable()
    precisions = {precision} if precision else set(bundle.precisions)
    for name in dict.fromkeys([wanted, "ort", *loaded]):  # in this order, each once
        supported = set(loaded[name].PRECISIONS) if name in loaded else set()
        # null has no model, so it is opened only where it is named
        if name != wanted and (name == "null" or not supported & precisions):
            continue
        found = backends.availability(name)
        if found.available:
            return name
        log.warning(f"the backend {name} is not available ({found.reason}): {found.hint}")
    return wanted
