"""Other seeds of the same training: how far accuracy varies between them, and whether the choice would hold."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.choose.policy import Policy
from benchmarks.choose.rule import Evidence, apply_rule
from benchmarks.measure.accuracy import predict
from benchmarks.measure.candidates import Candidate
from benchmarks.measure.measured_set import open_field
from benchmarks.results import decode_classes, encode_classes, evidence_of
from core.bundle.contract import open_bundle
from core.data.pack import Pack
from core.data.run_dir import Run, open_run
from core.errors import InputError
from core.files import read_json

log = logging.getLogger(__name__)

Results = dict[str, Any]


def find_seeds(run: Run, named: Sequence[Path] | None) -> list[Run]:
    """Return the runs of other seeds: the named ones, or without a name those beside `run` that differ in nothing else.

    Raises InputError when a named one was trained on another pack or with the same seed.
    """
    if named is None:
        return [other for other in _open_beside(run) if describe_seed(run, other)[0] == "another seed"]
    others = [open_run(path) for path in named]
    for other in others:
        what, said = describe_seed(run, other)
        if what == "another pack" or what == "the same seed":
            raise InputError(f"--seeds: {other.path} {said}: name runs that differ from {run.path} in the seed alone")
    return others


def _open_beside(run: Run) -> list[Run]:
    """Open the finished runs in the same folder; what is no run of ours, or holds nothing yet, is passed over."""
    found, here = [], run.path.resolve()
    for file in sorted(here.parent.glob("*/run.json")):
        with suppress(InputError):
            other = open_run(file.parent)
            if file.parent != here and (other.bundles() or [*other.path.glob("*/metrics.json")]):
                found.append(other)
    return found


def describe_seed(run: Run, other: Run) -> tuple[str, str]:
    """Return what `other` is to `run`, and the sentence's end that says so."""
    a, b = run.facts, other.facts
    if a["pack"]["fingerprint"] != b["pack"]["fingerprint"]:
        return "another pack", "was trained on another pack"
    if "seed" not in a or a.get("seed") == b.get("seed"):
        return "the same seed", f"was trained with the same seed, {b.get('seed')}"
    if any(a.get(name) != b.get(name) for name in ("recipe", "pretrained")):
        return "another recipe", "was trained by another recipe"
    return "another seed", f"was trained with seed {b['seed']}"


def measure_seeds(run: Run, others: Sequence[Run], candidates: Sequence[Candidate], pack: Pack) -> Results | None:
    """Classify the test rows with the same file of every other seed; return results.json's part, None without one."""
    if not others:
        return None
    rows = []
    for other in others:
        bundles = other.bundles()
        theirs = [replace(c, bundle=open_bundle(bundles[c.arch])) for c in candidates if c.arch in bundles]
        theirs = [c for c in theirs if c.proved and c.bundle.geometry == pack.geometry]
        predicted = {}
        with open_field(theirs) as (opened, refused):
            for row in refused:
                log.info(f"seed {other.facts.get('seed')}: {row.reason}")
            for candidate, processor in opened:
                log.info(f"seed {other.facts.get('seed')}: {candidate.name}")
                predicted[candidate.name] = encode_classes(predict(processor.classifier, pack).predicted_n)
        name, seed = other.path.resolve().name, other.facts.get("seed")
        rows.append({"run": name, "seed": seed, "predicted": predicted, "trained": read_trained(other)})
    return {"seed": run.facts.get("seed"), "trained": read_trained(run), "others": rows}


def read_trained(run: Run) -> dict[str, float]:
    """Return {architecture's folder: test accuracy of its network as trained} of the finished ones."""
    files = sorted(run.path.glob("*/metrics.json"))
    return {file.parent.name: float(read_json(file, "train the run again")["test"]["accuracy"]) for file in files}


def judge_seeds(results: Results, policy: Policy) -> None:
    """Write into results["seeds"] mean and sd of each candidate, what the rule chooses at each seed, and a sentence."""
    seeds = results["seeds"]
    if seeds is None:
        return
    labels = decode_classes(results["test"]["labels"])
    others = seeds["others"]
    own = {row["name"]: row["accuracy"]["top1"] for row in results["candidates"] if row["accuracy"]}
    exported = [
        {name: float((decode_classes(text) == labels).mean()) for name, text in other["predicted"].items()}
        for other in others
    ]
    seeds["accuracy"] = spread_of([own, *exported])
    seeds["networks"] = spread_of([seeds["trained"], *(other["trained"] for other in others)])
    for other in others:
        field = evidence_at(results, other["predicted"])
        chosen = apply_rule(field, policy, results["noise"]["floor"]).chosen if field else None
        other["judged"], other["chosen"] = bool(field), chosen.name if chosen else None
    seeds["sentence"] = say_seeds(results)


def evidence_at(results: Results, predicted: dict[str, str]) -> list[Evidence]:
    """Return the evidence with another seed's answers; times and sizes are this run's, since no seed changes them."""
    return [
        replace(e, predicted_n=decode_classes(predicted[e.name])) for e in evidence_of(results) if e.name in predicted
    ]


def spread_of(seeds: Sequence[dict[str, float]]) -> dict[str, dict[str, Any]]:
    """Return n, mean, sample standard deviation and the values of each accuracy that more than one seed has."""
    found: dict[str, list[float]] = {}
    for seed in seeds:
        for name, value in seed.items():
            found.setdefault(name, []).append(value)
    return {
        name: {"n": len(v), "mean": float(np.mean(v)), "sd": float(np.std(v, ddof=1)), "values": v}
        for name, v in found.items()
        if len(v) > 1
    }


def say_seeds(results: Results) -> str:
    """Say how far the seeds differ and whether the choice would hold for another one."""
    seeds, chosen = results["seeds"], results["choice"]["chosen"]
    judged = [other for other in seeds["others"] if other["judged"]]
    arch = next((row["arch"] for row in results["candidates"] if row["name"] == chosen), None)
    body = seeds["accuracy"].get(chosen)
    said = []
    if body:
        said.append(f"{chosen} has {_plus_minus(body)} of the test rows right over {body['n']} seeds.")
    elif arch in seeds["networks"]:
        of = seeds["networks"][arch]
        said.append(f"{arch} as trained has {_plus_minus(of)} of the test rows right over {of['n']} seeds.")
    if not judged:
        return " ".join([*said, "Whether the choice would hold for another seed was not measured: export those runs."])
    same = [other for other in judged if other["chosen"] == chosen]
    if len(same) == len(judged):
        said.append(f"The choice holds for another seed: {_times(len(judged))} the rule chooses the same.")
    else:
        wins = "; ".join(f"seed {o['seed']}: {o['chosen'] or 'nothing fits'}" for o in judged if o not in same)
        held = f"the rule chooses the same in {len(same)} of {len(judged)} other seeds"
        said.append(f"The choice may not hold for another seed: {held} ({wins}).")
    return " ".join(said)


def _plus_minus(body: dict[str, Any]) -> str:
    return f"{100 * body['mean']:.1f} ± {100 * body['sd']:.1f}%"


def _times(count: int) -> str:
    return "with the one other seed" if count == 1 else f"with each of {count} other seeds"
