"""results.json: everything the report shows, and all that is needed to choose again without measuring again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.candidates import Unmeasured
from benchmarks.choose import Choice, Evidence, Policy, explain_rule
from benchmarks.field import Measured
from benchmarks.latency import CALLS_PER_TURN, Noise
from benchmarks.machine import describe_machine
from inference.pack import Pack
from inference.runs import Run

SCHEMA = 1
ORIGIN = ord("0")
"""`predicted` holds one character a test row: chr(ORIGIN + class)."""


def encode_classes(classes_n: Sequence[int] | np.ndarray) -> str:
    """Return class numbers as a string, one character each."""
    return "".join(chr(ORIGIN + int(c)) for c in classes_n)


def decode_classes(text: str) -> np.ndarray:
    """Return the class numbers of `encode_classes`."""
    return np.array([ord(c) - ORIGIN for c in text], np.int64)


def collect(
    run: Run,
    pack: Pack,
    measured: Sequence[Measured],
    unmeasured: Sequence[Unmeasured],
    noise: Noise,
    policy: Policy,
) -> dict[str, Any]:
    """Return the body of results.json without the choice."""
    rows = []
    for m in measured:
        row = m.as_json()
        if m.predictions is not None:
            row["predicted"] = encode_classes(m.predictions.predicted_n)
        rows.append(row)
    return {
        "schema": SCHEMA,
        "made_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "run": run.path.resolve().name,
        "synthetic": pack.synthetic or any(m.candidate.bundle.synthetic for m in measured),
        "machine": describe_machine(),
        "pack": {"fingerprint": pack.fingerprint, "classes": list(pack.classes), "background": pack.background},
        "test": {"n": len(pack.rows("test")), "labels": encode_classes(pack.labels_n[pack.rows("test")])},
        "protocol": {
            "batch": 1,
            "calls_per_turn": CALLS_PER_TURN,
            "order": "shuffled round-robin over all candidates and an A/A twin of the first",
            "outliers": "none removed",
        },
        "noise": {
            "aa_pair": measured[0].candidate.name,
            "aa_ratio": list(noise.ratio),
            "aa_same": noise.same,
            "spread": noise.spread,
            "noisy": noise.noisy,
            "floor": noise.floor,
        },
        "candidates": rows,
        "unmeasured": [asdict(row) for row in unmeasured],
        "policy": asdict(policy),
        "rule": explain_rule(policy),
    }


def evidence_of(results: dict[str, Any]) -> list[Evidence]:
    """Return what the choice needs of every measured candidate."""
    labels = decode_classes(results["test"]["labels"])
    return [
        Evidence(
            name=row["name"],
            correct_n=decode_classes(row["predicted"]) == labels if "predicted" in row else np.zeros(len(labels), bool),
            p50_ms=row["latency"]["frame_ms"]["p50"],
            p99_ms=row["latency"]["frame_ms"]["p99"],
            bytes=row["bytes"],
            selectable=row["selectable"],
        )
        for row in results["candidates"]
    ]


def choice_as_json(choice: Choice, results: dict[str, Any]) -> dict[str, Any]:
    """Return choice.json: the reason, and why each other candidate was not chosen."""
    verdicts = {v.name: v for v in choice.verdicts}
    rows = [{**_figures(row), **_verdict_as_json(verdicts[row["name"]])} for row in results["candidates"]]
    return {
        "schema": SCHEMA,
        "synthetic": results["synthetic"],
        "sentence": choice.sentence,
        "chosen": choice.chosen,
        "reference": choice.reference,
        "rule": results["rule"],
        "policy": results["policy"],
        "machine": results["machine"],
        "noise": results["noise"],
        "pack": results["pack"],
        "made_at": results["made_at"],
        "run": results["run"],
        "candidates": rows,
        "unmeasured": results["unmeasured"],
    }


def _figures(row: dict[str, Any]) -> dict[str, Any]:
    kept = {key: row[key] for key in ("name", "arch", "precision", "backend", "threads", "bytes", "selectable")}
    accuracy, frame = row["accuracy"], row["latency"]["frame_ms"]
    kept["accuracy"] = accuracy["top1"] if accuracy else None
    kept["accuracy_interval"] = accuracy["interval"] if accuracy else None
    return kept | {"p50_ms": frame["p50"], "p99_ms": frame["p99"], "cold_start_ms": row.get("cold_start_ms")}


def _verdict_as_json(verdict: Any) -> dict[str, Any]:
    body = asdict(verdict)
    pairs = body.pop("pairs")
    body["discordant"] = None if pairs is None else {"only_reference": pairs[0], "only_this": pairs[1], "n": pairs[2]}
    body["loss_interval"] = None if body["loss_interval"] is None else list(body["loss_interval"])
    return body


def report_folder(run: Path) -> Path:
    """Return the report's folder of a run."""
    return run / "report"
