"""Whether production/ still is what the benchmark chose: a later export or detector does not reach it by itself."""

from __future__ import annotations

import logging

from core.bundle.contract import DETECTOR, Bundle, onnx_name, open_bundle
from core.data.run_dir import Run, folder_name
from core.errors import InputError

log = logging.getLogger(__name__)


def open_production(run: Run) -> Bundle:
    """Open the production bundle. Raises InputError when there is none, or when its source is missing or is newer."""
    path = run.production()
    if path is None:
        missing = run.path / "production"
        raise InputError(f"{missing} holds no bundle: choose one first with `python -m benchmarks {run.path}`")
    production = open_bundle(path)
    name = folder_name(production.arch)
    source = run.bundles().get(name)
    if source is None:  # whether production is up to date cannot be told
        missing = run.path / name / "bundle"
        raise InputError(
            f"{missing}, from which {path} was chosen, is missing: export the run again, then {_hint(run)}"
        )
    if what := _difference(production, open_bundle(source)):
        raise InputError(f"{path} is not what {source} holds now ({what}): {_hint(run)}")
    return production


def warn_of_earlier_choice(run: Run, reason: str) -> None:
    """Warn that production/, where there is one, was chosen before this command changed the bundles."""
    if path := run.production():
        log.warning(f"{path} {reason}: {_hint(run)}")


def _difference(production: Bundle, source: Bundle) -> str:
    """Return what differs of the files that ship; empty where all agree. Engines and proofs may differ."""
    if production.contract_hash != source.contract_hash:
        thresholds = f"abstain threshold {production.abstain_threshold:.3f}, there {source.abstain_threshold:.3f}"
        same = production.abstain_threshold == source.abstain_threshold
        return "another contract" if same else thresholds
    if production.detector != source.detector:
        return "another detector"
    precisions = [production.choice.precision] if production.choice else production.precisions
    names = [onnx_name(precision, unsigned=unsigned) for precision in precisions for unsigned in (False, True)]
    for name in (*names, DETECTOR):
        if production.files.get(name) != source.files.get(name):
            return f"another {name}"
    return ""


def _hint(run: Run) -> str:
    return f"run the benchmark again: make benchmark RUN={run.path.resolve().name}"
