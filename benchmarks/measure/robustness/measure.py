"""How the very file that ships bears weather, dirt and strangers: once for each architecture and precision, batched."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure.candidates import Candidate
from benchmarks.measure.profiles import Effort
from benchmarks.measure.robustness.corruptions import CORRUPTIONS, corrupt
from benchmarks.measure.robustness.strangers import auroc, make_strangers
from core.bundle.contract import Probs
from core.data.pack import Pack
from core.geometry.frame import Bytes
from core.machine import cores
from core.stats import ranks_in_class, wilson
from inference.backends import Backend, open_backend

log = logging.getLogger(__name__)

BATCH = 16
BUDGET_S = 100.0
"""All architectures and precisions together; fewer rows are taken where they are slower."""


@dataclass(frozen=True)
class Rows:
    """The test rows that are corrupted: the same for everyone."""

    images_nhwc: Bytes
    labels_n: NDArray[np.int64]


def pick_rows(pack: Pack, ms_per_row: float, effort: Effort) -> Rows:
    """Draw as many test rows as the time allows, each class as often as in the split."""
    test = pack.rows("test")
    able = int(BUDGET_S * 1000 / (ms_per_row * len(CORRUPTIONS) * len(effort.severities)))
    fewest, most = effort.corrupted_rows
    count = min(len(test), max(fewest, min(most, able)))
    order = np.random.default_rng(0).permutation(test)
    labels = pack.labels_n[order]
    within = (ranks_in_class(labels) + 0.5) / np.bincount(labels)[labels]  # place within its class, 0 to 1
    rows = np.sort(order[np.argsort(within, kind="stable")[:count]])
    return Rows(pack.images_nhwc[rows], pack.labels_n[rows])


def measure_robustness(
    candidates: Sequence[Candidate], ms_of: dict[str, float], pack: Pack, strangers: Path | None, effort: Effort
) -> dict[tuple[str, str], dict[str, Any]]:
    """Return {(architecture, precision): robustness}. ms_of: each candidate's median milliseconds a row."""
    chosen = pick_carriers(candidates, ms_of)
    rows = pick_rows(pack, sum(ms_of[c.name] for c in chosen), effort)
    strange = make_strangers(pack.geometry, pack.background, strangers, effort.strangers)
    log.info(f"robustness: {len(rows.labels_n)} rows x {len(CORRUPTIONS)} x {len(effort.severities)}")
    hits: dict[str, list[NDArray[np.bool_]]] = {c.name: [] for c in chosen}
    threads = cores()
    with ExitStack() as stack:
        backends = {
            c.name: stack.enter_context(open_backend(c.backend, c.bundle, c.precision, batch=BATCH, threads=threads))
            for c in chosen
        }
        clean = {name: classify(backend, rows.images_nhwc) for name, backend in backends.items()}
        for corrupted in corrupted_sets(rows.images_nhwc, effort.severities):
            for name, backend in backends.items():
                hits[name].append(classify(backend, corrupted).argmax(1) == rows.labels_n)
        far = {n: {what: classify(b, images).max(1) for what, images in strange.items()} for n, b in backends.items()}
    result = {}
    for c in chosen:
        right = clean[c.name].argmax(1) == rows.labels_n
        body = summarise(np.stack(hits[c.name]), right, rows.labels_n, pack.classes, effort.severities)
        body["strangers"] = judge_strangers(clean[c.name].max(1), far[c.name], c.bundle.abstain_threshold)
        result[c.arch, c.precision] = {"measured_on": c.backend, **body}
    return result


def pick_carriers(candidates: Sequence[Candidate], ms_of: dict[str, float]) -> list[Candidate]:
    """Return one candidate for each architecture and precision: the quickest."""
    best: dict[tuple[str, str], Candidate] = {}
    for c in candidates:
        key = c.arch, c.precision
        if c.bundle.selectable and (key not in best or ms_of[c.name] < ms_of[best[key].name]):
            best[key] = c
    return list(best.values())


def corrupted_sets(images_nhwc: Bytes, severities: Sequence[int]) -> Iterator[Bytes]:
    """Yield the rows under every corruption at every severity, in that order."""
    for name in CORRUPTIONS:
        for severity in severities:
            yield np.stack([corrupt(image, name, severity, seed) for seed, image in enumerate(images_nhwc)])


def classify(backend: Backend, images_nhwc: Bytes) -> Probs:
    """Return float32 (n, classes), a batch at a time."""
    batch = backend.input_nhwc.shape[0]
    probs = []
    for start in range(0, len(images_nhwc), batch):
        part = images_nhwc[start : start + batch]
        backend.input_nhwc[: len(part)] = part
        probs.append(backend.infer(len(part)).copy())
    return np.concatenate(probs)


def summarise(
    hits_kn: NDArray[np.bool_],
    clean_n: NDArray[np.bool_],
    labels_n: NDArray[np.int64],
    classes: tuple[str, ...],
    severities: Sequence[int],
) -> dict[str, Any]:
    """Return the accuracy a corruption and severity, their mean, and the class that suffers most."""
    cells = hits_kn.mean(1).reshape(len(CORRUPTIONS), len(severities))
    recalls = {classes[c]: float(hits_kn[:, labels_n == c].mean()) for c in np.unique(labels_n)}
    worst = min(recalls, key=lambda name: recalls[name])
    clean = float(clean_n.mean())
    return {
        "rows": len(labels_n),
        "severities": list(severities),
        "clean": clean,
        "clean_interval": list(wilson(int(clean_n.sum()), len(clean_n))),
        "mean": float(cells.mean()),
        "relative": float(cells.mean() / clean) if clean else None,
        "worst_class": {"name": worst, "recall": recalls[worst]},
        "cells": {name: [float(v) for v in row] for name, row in zip(CORRUPTIONS, cells, strict=True)},
    }


def judge_strangers(known_n: Any, strange: dict[str, Any], threshold: float) -> dict[str, Any]:
    """Return, of each kind of stranger, the AUROC of the top probability and the part that the runner abstains on."""
    return {
        what: {"auroc": auroc(known_n, tops), "abstained": float((tops < threshold).mean()), "n": len(tops)}
        for what, tops in strange.items()
    } | {"known": {"auroc": None, "abstained": float((known_n < threshold).mean()), "n": len(known_n)}}
