"""Runs of the same training with other seeds: find them, and classify the test rows with their files."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from benchmarks.measure.accuracy import predict
from benchmarks.measure.candidates import candidate_of
from benchmarks.measure.measured_set import open_side_by_side
from benchmarks.results.candidate import CandidateResult, NotMeasured
from benchmarks.results.run import SeedResult, Seeds
from core.bundle.contract import Bundle, open_bundle
from core.data.pack import Pack
from core.data.run_dir import Run, open_run
from core.errors import InputError
from core.files import read_json

log = logging.getLogger(__name__)


def find_seeds(run: Run, named: Sequence[Path] | None) -> list[Run]:
    """Return the named runs of other seeds; without names, the runs in the same folder that differ in the seed alone.

    Raises InputError when a named one differs in anything but the seed.
    """
    if named is None:
        return [other for other in _open_beside(run) if describe_seed(run, other)[0] == "another seed"]
    others = [open_run(path) for path in named]
    for other in others:
        what, description = describe_seed(run, other)
        if what != "another seed":
            raise InputError(
                f"--seeds: {other.path} {description}: name runs that differ from {run.path} in the seed alone"
            )
    return others


def _open_beside(run: Run) -> list[Run]:
    """Open the finished runs in the same folder; other folders, and runs that hold nothing yet, are skipped."""
    found, own = [], run.path.resolve()
    for file in sorted(own.parent.glob("*/run.json")):
        with suppress(InputError):  # a folder of another kind, or a run of an older version, is no other seed
            other = open_run(file.parent)
            if file.parent != own and (other.bundles() or [*other.path.glob("*/metrics.json")]):
                found.append(other)
    return found


def describe_seed(run: Run, other: Run) -> tuple[str, str]:
    """Return the difference between two runs as a keyword, and as the end of a sentence about `other`."""
    a, b = run.metadata, other.metadata
    # the pack first: on other rows neither the seed nor the recipe can be compared
    if a["pack"]["fingerprint"] != b["pack"]["fingerprint"]:
        return "another pack", "was trained on another pack"
    if "seed" not in a or a.get("seed") == b.get("seed"):
        return "the same seed", f"was trained with the same seed, {b.get('seed')}"
    if any(a.get(name) != b.get(name) for name in ("recipe", "pretrained")):
        return "another recipe", "was trained by another recipe"
    return "another seed", f"was trained with seed {b['seed']}"


def bundles_of(others: Sequence[Run]) -> dict[str, Bundle]:
    """Return {"ARCH of RUN": bundle} of the runs of other seeds."""
    found = {}
    for other in others:
        for arch, path in other.bundles().items():
            found[f"{arch} of {other.path.name}"] = open_bundle(path)
    return found


def measure_seeds(
    run: Run, others: Sequence[Run], results: Sequence[CandidateResult], pack: Pack
) -> Seeds | NotMeasured:
    """Classify the test rows with the file of every other seed, for each selectable candidate."""
    if not others:  # one seed says nothing about the spread
        return NotMeasured("there is one seed only")
    selectable = [result for result in results if result.selectable]
    return Seeds(read_trained(run), tuple(_measure_seed(other, selectable, pack) for other in others))


def _measure_seed(other: Run, results: Sequence[CandidateResult], pack: Pack) -> SeedResult:
    seed, predicted_n = other.metadata.get("seed"), {}
    bundles = {arch: open_bundle(path) for arch, path in other.bundles().items()}
    # on the backends and threads of this run, so that only the weights differ
    candidates = [candidate_of(result, bundles) for result in results if result.arch in bundles]
    passed = [candidate for candidate in candidates if candidate.passed_gates]
    fitting = [candidate for candidate in passed if candidate.bundle.geometry == pack.geometry]
    with open_side_by_side(fitting) as (opened, refused):
        for row in refused:
            log.info(f"seed {seed}: {row.reason}")
        for candidate, processor in opened:
            log.info(f"seed {seed}: {candidate.name}")
            predicted_n[candidate.name] = predict(processor.classifier, pack).argmax(1)
    return SeedResult(other.path.resolve().name, seed, predicted_n, read_trained(other))


def read_trained(run: Run) -> dict[str, float]:
    """Return {folder of an architecture: test accuracy of its network as trained}, of the finished ones."""
    files = sorted(run.path.glob("*/metrics.json"))
    return {file.parent.name: float(read_json(file, "train the run again")["test"]["accuracy"]) for file in files}
