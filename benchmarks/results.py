"""results.json: everything the report shows, and all that is needed to choose again without measuring again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.choose.explain import explain, explain_rule, role, say_choice
from benchmarks.choose.policy import Policy
from benchmarks.choose.rule import Evidence, Outcome, apply_rule
from benchmarks.measure.accuracy import score
from benchmarks.measure.candidates import Unmeasured
from benchmarks.measure.machine import describe_machine
from benchmarks.measure.measured_set import Field, Measured
from benchmarks.measure.speed.latency import CALLS_PER_TURN, WARM_UPS_PER_TURN, Samples, compare
from core.data.pack import Pack
from core.data.run_dir import Run
from core.errors import InputError
from core.files import read_json
from core.stats import Bools, loss_bound, mcnemar_p, pair, paired_interval, summarise

SCHEMA = 1
Results = dict[str, Any]
"""The body of results.json."""
ORIGIN = ord("0")
"""`predicted` holds one character a test row: chr(ORIGIN + class)."""
CURVE = (*range(0, 100, 2), 99, 99.5, 99.9, 100)
"""The percentiles that the latency curves are drawn through."""


def encode_classes(classes_n: Sequence[int] | NDArray[np.int64]) -> str:
    """Return class numbers as a string, one character each."""
    return "".join(chr(ORIGIN + int(c)) for c in classes_n)


def decode_classes(text: str) -> NDArray[np.int64]:
    """Return the class numbers of `encode_classes`."""
    return np.array([ord(c) - ORIGIN for c in text], np.int64)


def read_results(file: Path) -> list[Results]:
    """Read results.json, of one device or merged. Raises InputError when it is not of this schema."""
    body = read_json(file, "measure the run with `python -m benchmarks`")
    devices = body["merged"] if isinstance(body, dict) and isinstance(body.get("merged"), list) else [body]
    needed = {"machine", "pack", "test", "noise", "candidates", "choice", "policy", "protocol", "learning", "ladder"}
    for results in devices:
        if not isinstance(results, dict) or results.get("schema") != SCHEMA or not needed <= set(results):
            raise InputError(f"{file} is not results.json of schema {SCHEMA}: measure the run again")
    return [{"sustained": None, "other_sizes": [], **results} for results in devices]


def describe_run(run: Run, pack: Pack, field: Field, unmeasured: Sequence[Unmeasured]) -> dict[str, Any]:
    """Return the body of results.json without policy and choice."""
    noise, test = field.noise, pack.rows("test")
    return {
        "schema": SCHEMA,
        "made_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "run": run.path.resolve().name,
        "synthetic": pack.synthetic or any(m.candidate.bundle.synthetic for m in field.measured),
        "machine": describe_machine(),
        "pack": {"fingerprint": pack.fingerprint, "classes": list(pack.classes), "background": pack.background},
        "test": {"n": len(test), "labels": encode_classes(pack.labels_n[test])},
        "protocol": {
            "batch": 1,
            "calls_per_turn": CALLS_PER_TURN,
            "warm_ups_per_turn": WARM_UPS_PER_TURN,
            "order": "shuffled round-robin over all candidates and an A/A twin of the first",
            "outliers": "none removed",
        },
        "noise": {
            "aa_pair": field.measured[0].candidate.name,
            "aa_ratio": list(noise.ratio),
            "aa_median_ratio": list(noise.median_ratio),
            "aa_same": noise.same,
            "spread": noise.spread,
            "noisy": noise.noisy,
            "floor": noise.floor,
        },
        "candidates": [describe_candidate(m) for m in field.measured],
        "unmeasured": [asdict(row) for row in (*unmeasured, *field.refused)],
        "seeds": None,
        "sustained": None,
        "other_sizes": [],
    }


def describe_candidate(measured: Measured) -> dict[str, Any]:
    """Return a candidate's row. Later measurements fill what is None here."""
    candidate, bundle = measured.candidate, measured.candidate.bundle
    row: dict[str, Any] = {
        "name": candidate.name,
        "arch": candidate.arch,
        "precision": candidate.precision,
        "backend": candidate.backend,
        "threads": candidate.threads,
        "selectable": False,
        "why_not": "",
        "size_px": bundle.geometry.size_px,
        "bytes": candidate.bytes(measured.opened),
        "opened": measured.opened,
        "accuracy": None,
        "predicted": None,
        "latency": describe_latency(measured.samples),
        "against_fp32": None,
        "cold_start_ms": None,
        "age_ms": None,
        "robustness": None,
        "energy_mj": None,
    }
    if measured.predictions is not None:
        row["accuracy"] = score(measured.predictions, bundle.classes)
        row["predicted"] = encode_classes(measured.predictions.predicted_n)
    row["why_not"] = reason_not_selectable(measured)
    row["selectable"] = not row["why_not"]
    return row


def describe_latency(samples: Samples) -> dict[str, Any]:
    """Return both latencies with their percentiles, and the curve of the frame's."""
    frames = samples.frame_ms.ravel()
    return {
        "frame_ms": summarise(frames),
        "engine_ms": summarise(samples.engine_ms.ravel()),
        "curve_ms": [round(float(value), 5) for value in np.percentile(frames, CURVE)],
    }


def compare_precisions(results: dict[str, Any], samples: dict[str, Samples]) -> None:
    """Write into each row the paired comparison with fp32 of the same network and backend.

    fp32 has the same thread count where that was measured, else its own best. samples: by the candidate's name.
    """
    labels = decode_classes(results["test"]["labels"])
    right = {r["name"]: decode_classes(r["predicted"]) == labels for r in results["candidates"] if r["predicted"]}
    full = [row for row in results["candidates"] if row["precision"] == "fp32"]
    for row in results["candidates"]:
        rivals = [r for r in full if (r["arch"], r["backend"]) == (row["arch"], row["backend"])]
        base = min(rivals, key=lambda r: r["threads"] != row["threads"], default=row)["name"]
        if base == (name := row["name"]):
            continue
        ratio = float(np.exp(np.median(np.log(samples[name].undisturbed_ms / samples[base].undisturbed_ms))))
        row["against_fp32"] = {
            "time_ratio": ratio,
            "time_interval": list(compare(samples[base], samples[name])),
            **_compare_rows(right.get(base), right.get(name)),
        }


def _compare_rows(base_n: Bools | None, right_n: Bools | None) -> dict[str, Any]:
    if base_n is None or right_n is None:
        return {"loss": None}
    pairs = pair(base_n, right_n)
    return {
        "loss": pairs.loss,
        "loss_interval": list(paired_interval(pairs)),
        "loss_bound": loss_bound(pairs),
        "mcnemar_p": mcnemar_p(pairs),
        "only_fp32": pairs.only_reference,
        "only_this": pairs.only_rival,
    }


def reason_not_selectable(measured: Measured) -> str:
    """Return why a candidate may never be chosen, or nothing."""
    if not measured.candidate.bundle.selectable or measured.predictions is None:
        return "it was exported at another size than it was trained at: for latency only"
    if not measured.candidate.proved:
        return f"{measured.candidate.precision} is not among the precisions that its bundle proved"
    return measured.unproved


def evidence_of(results: dict[str, Any]) -> list[Evidence]:
    """Return what the choice needs of every measured candidate."""
    labels = decode_classes(results["test"]["labels"])
    return [
        Evidence(
            name=row["name"],
            labels_n=labels,
            predicted_n=decode_classes(row["predicted"]) if row["predicted"] else np.full(len(labels), -1),
            classes=tuple(results["pack"]["classes"]),
            figures={
                "p50_ms": row["latency"]["frame_ms"]["p50"],
                "p99_ms": row["latency"]["frame_ms"]["p99"],
                "age_ms": row["age_ms"]["p99"] if row["age_ms"] else None,
                "size_mb": row["bytes"] / 1e6,
                "energy_mj": row["energy_mj"],
                "cold_start_ms": row["cold_start_ms"],
                "ece": row["accuracy"].get("ece") if row["accuracy"] else None,
                "corruption_accuracy": row["robustness"]["mean"] if row["robustness"] else None,
            },
            why_not=row["why_not"],
        )
        for row in results["candidates"]
    ]


def choose(results: dict[str, Any], policy: Policy) -> Outcome:
    """Apply the rule to results, and write policy, rule and choice into them."""
    field = evidence_of(results)
    outcome = apply_rule(field, policy, results["noise"]["floor"])
    results["policy"], results["rule"] = policy.as_json(), explain_rule(policy)
    results["choice"] = describe_choice(outcome, field, policy, results)
    return outcome


def describe_choice(outcome: Outcome, field: list[Evidence], policy: Policy, results: dict[str, Any]) -> dict[str, Any]:
    """Return choice.json: the reason, and why each other candidate was not chosen."""
    rows = [
        {
            **_figures(row),
            "role": role(e, outcome),
            "why": explain(e, outcome, policy),
            **_describe_loss(outcome, e),
            "against_chosen": compare_with_chosen(outcome.chosen, e),
        }
        for row, e in zip(results["candidates"], field, strict=True)
    ]
    body = {
        "schema": SCHEMA,
        "synthetic": results["synthetic"],
        "sentence": say_choice(outcome, field, policy),
        "chosen": outcome.chosen.name if outcome.chosen else None,
        "reference": outcome.reference.name if outcome.reference else None,
    }
    copied = ("rule", "policy", "machine", "noise", "pack", "made_at", "run", "unmeasured")
    return {**body, **{name: results[name] for name in copied}, "candidates": rows}


def compare_with_chosen(chosen: Evidence | None, rival: Evidence) -> dict[str, Any] | None:
    """Return McNemar's test of a rival against the chosen one on the same rows; None for itself or without rows."""
    if chosen is None or rival is chosen or (rival.predicted_n < 0).any():
        return None
    pairs = pair(chosen.correct_n, rival.correct_n)
    return {"only_chosen": pairs.only_reference, "only_this": pairs.only_rival, "mcnemar_p": mcnemar_p(pairs)}


def _figures(row: dict[str, Any]) -> dict[str, Any]:
    kept = {key: row[key] for key in ("name", "arch", "precision", "backend", "threads", "bytes", "selectable")}
    accuracy, frame = row["accuracy"], row["latency"]["frame_ms"]
    kept["accuracy"] = accuracy["top1"] if accuracy else None
    kept["accuracy_interval"] = accuracy["interval"] if accuracy else None
    return kept | {"p50_ms": frame["p50"], "p99_ms": frame["p99"], "cold_start_ms": row["cold_start_ms"]}


def _describe_loss(outcome: Outcome, evidence: Evidence) -> dict[str, Any]:
    loss = outcome.losses.get(evidence.name)
    if loss is None:
        return {"loss": None, "loss_interval": None, "loss_bound": None, "mcnemar_p": None, "discordant": None}
    return {
        "loss": loss.observed,
        "loss_interval": list(loss.interval),
        "loss_bound": loss.bound,
        "mcnemar_p": loss.mcnemar_p,
        "discordant": {
            "only_reference": loss.pairs.only_reference,
            "only_this": loss.pairs.only_rival,
            "n": loss.pairs.n,
        },
    }
