"""Parity: the difference between an exported graph in a runtime and torch, and the gate on it.

Each precision is compared and gated as it is made, by the `add_*` functions of export/assemble.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnxruntime import GraphOptimizationLevel, InferenceSession, SessionOptions
from torch import nn

from core.bundle.contract import INPUT, Probs
from core.bundle.parity_file import LossInterval, ParityResult
from core.geometry.frame import Bytes
from core.stats import count_pairs, paired_interval

BATCH = 64
# fp32 has a bound of its own; every other precision has a row in each of the two tables
FP32_MAX_DPROB = 1e-4
ACCURACY_LOSS = {"fp16": 0.003, "int8": 0.01}
"""Largest loss of val accuracy against torch, as a fraction, or one row where val is so small that one is more."""
P99_DPROB = {"fp16": 0.02, "int8": 0.25}
"""Largest 99th percentile of |dprob| on val. It refuses a file whose accuracy is right by chance alone."""


def compare_with_torch(
    name: str, split: str, rows: NDArray[np.int64], probs: Probs, reference: Probs, labels: NDArray[np.int64]
) -> ParityResult:
    """Compare a file's probabilities with torch's of the same rows. Raises ValueError when the shapes differ."""
    if probs.shape != reference.shape or len(probs) != len(rows):
        raise ValueError(f"{name}: {probs.shape} against {reference.shape} for {len(rows)} rows")
    dprob = np.abs(probs - reference).max(1)  # of each row its largest difference over the classes
    top, top_reference = probs.argmax(1), reference.argmax(1)
    flipped = np.flatnonzero(top != top_reference)
    pairs = count_pairs(top_reference == labels, top == labels)
    # by row number and both answers, so that a flip can be looked at
    flips = [{"row": int(rows[i]), "torch": _answer(reference[i]), "file": _answer(probs[i])} for i in flipped]
    return ParityResult(
        name=name,
        split=split,
        rows=len(rows),
        max_dprob=finite(float(dprob.max())),
        p99_dprob=finite(float(np.percentile(dprob, 99))),
        top1_agreement=float((top == top_reference).mean()),
        accuracy=float((top == labels).mean()),
        accuracy_loss=LossInterval(pairs.loss, *paired_interval(pairs)),
        flipped=tuple(int(rows[i]) for i in flipped),
        flips=tuple(flips),
        mean_dprob=finite(float(dprob.mean())),
    )


def _answer(probs_c: Probs) -> dict[str, Any]:
    top = int(probs_c.argmax())
    return {"class": top, "probability": finite(round(float(probs_c[top]), 6))}


def make_gate(precision: str, results: list[ParityResult]) -> dict[str, Any]:
    """Return the gate of a precision, {"passed", "checks"}, from its results on val. NaN fails."""
    checks: list[dict[str, Any]] = []
    for result in results:
        if precision == "fp32":
            # the same arithmetic in another order: the largest difference counts, no percentile
            checks.append(make_check(f"{result.name}: max |dprob|", result.max_dprob, FP32_MAX_DPROB))
            continue
        # with few rows one row is more than the limit, and one row is no evidence
        loss_limit = max(ACCURACY_LOSS[precision], 1 / result.rows)
        loss = result.accuracy_loss
        bounds = {"low_95": loss.low_95, "high_95": loss.high_95}
        checks.append(make_check(f"{result.name}: accuracy loss", loss.value, loss_limit) | bounds)
        checks.append(make_check(f"{result.name}: p99 |dprob|", result.p99_dprob, P99_DPROB[precision]))
    return {"passed": all(check["passed"] for check in checks), "checks": checks}


def make_check(name: str, value: float | None, limit: float) -> dict[str, Any]:
    """Return one check of a gate; it passes when the value is a number within the limit."""
    number = None if value is None else finite(value)
    return {"name": name, "value": number, "limit": limit, "passed": number is not None and bool(number <= limit)}


def first_failure(gate: dict[str, Any]) -> str:
    """Return the sentence of the first check that failed, or why there is nothing to check."""
    failed = next((check for check in gate["checks"] if not check["passed"]), None)
    if failed is None:
        return str(gate["note"])
    value = "not a number" if failed["value"] is None else f"{failed['value']:.4g}"
    return f"{failed['name']} is {value}, the limit is {failed['limit']:g}"


def finite(value: float) -> float | None:
    """Return a number as JSON can hold it: None for NaN and infinity, which an overflow leaves."""
    return value if math.isfinite(value) else None


def batches(images_nhwc: Bytes, rows: NDArray[np.int64], size: int = BATCH) -> Iterator[Bytes]:
    """Yield the rows unchanged, uint8 (n, S, S, 3), `size` at a time."""
    for start in range(0, len(rows), size):
        yield np.ascontiguousarray(images_nhwc[rows[start : start + size]])


def run_torch(network: nn.Module, images_nhwc: Bytes, rows: NDArray[np.int64]) -> Probs:
    """Return torch's probabilities of the rows, float32 (n, classes)."""
    with torch.inference_mode():
        parts = [network(torch.from_numpy(frames)).numpy() for frames in batches(images_nhwc, rows)]
    return np.concatenate(parts)


def cpu_session(model: onnx.ModelProto, *, exact: bool = False) -> InferenceSession:
    """Open a graph in ONNX Runtime on the CPU. exact: compute it as it is written, without fusing nodes."""
    options = SessionOptions()
    options.log_severity_level = 3  # errors alone
    if exact:
        options.graph_optimization_level = GraphOptimizationLevel.ORT_DISABLE_ALL
    return InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])


def run_onnx(model: onnx.ModelProto, images_nhwc: Bytes, rows: NDArray[np.int64], *, exact: bool = False) -> Probs:
    """Return ONNX Runtime's probabilities of the rows, float32 (n, classes). exact: as of `cpu_session`."""
    session = cpu_session(model, exact=exact)
    parts = [session.run(None, {INPUT["name"]: frames})[0] for frames in batches(images_nhwc, rows)]
    return np.concatenate(parts)
