"""Robustness of the model file that ships: accuracy under corruptions, abstention on out-of-distribution pictures."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.measure.candidates import Candidate
from benchmarks.measure.profiles import Profile
from benchmarks.measure.robustness.corruptions import CORRUPTIONS, corrupt
from benchmarks.measure.robustness.ood import auroc, make_ood
from benchmarks.results.candidate import OutOfDistribution, Robustness
from core.bundle.abstain import AbstainRule
from core.bundle.contract import Probs
from core.data.pack import Pack
from core.geometry.frame import Bytes
from core.machine import cores
from core.stats import Bools, Ints, ranks_in_class, wilson
from inference.backends import Backend, open_backend

log = logging.getLogger(__name__)

BATCH = 16
BUDGET_S = 100.0
"""Seconds for all candidates together; the slower they are, the fewer rows are taken."""


@dataclass(frozen=True, eq=False)
class RowSample:
    """The test rows that are corrupted, the same for every candidate, and the classes of the pack."""

    images_nhwc: Bytes
    labels_n: Ints
    classes: tuple[str, ...]


def sample_rows(pack: Pack, ms_per_row: float, profile: Profile) -> RowSample:
    """Draw as many test rows as the time budget allows, with the class proportions of the split."""
    test = pack.rows("test")
    affordable = int(BUDGET_S * 1000 / (ms_per_row * len(CORRUPTIONS) * len(profile.severities)))
    fewest, most = profile.corrupted_rows
    count = min(len(test), max(fewest, min(most, affordable)))
    order = np.random.default_rng(0).permutation(test)
    labels = pack.labels_n[order]
    # sorted by their position within their class, the first rows hold every class in proportion
    within = (ranks_in_class(labels) + 0.5) / np.bincount(labels)[labels]  # position within its class, 0 to 1
    rows = np.sort(order[np.argsort(within, kind="stable")[:count]])
    return RowSample(pack.images_nhwc[rows], pack.labels_n[rows], pack.classes)


def measure_robustness(
    candidates: Sequence[Candidate], ms_per_row: float, pack: Pack, ood: Path | None, profile: Profile
) -> dict[tuple[str, str], Robustness]:
    """Return {(architecture, precision): robustness}.

    candidates: one of each architecture and precision. ms_per_row: milliseconds that all of them take for a row.
    ood: a folder of out-of-distribution images.
    """
    rows = sample_rows(pack, ms_per_row, profile)
    pictures = make_ood(pack.geometry, pack.background, ood, profile.ood_images)
    log.info(f"robustness: {len(rows.labels_n)} rows x {len(CORRUPTIONS)} x {len(profile.severities)}")
    with ExitStack() as stack:
        backends = {}
        for c in candidates:
            # all cores: answers are counted here, not times
            opened = open_backend(c.backend, c.bundle, c.precision, batch=BATCH, threads=cores())
            backends[c.name] = stack.enter_context(opened)
        hits: dict[str, list[Bools]] = {name: [] for name in backends}
        for corrupted in corrupted_sets(rows.images_nhwc, profile.severities):
            # the images are corrupted once for all candidates
            for name, backend in backends.items():
                hits[name].append(classify(backend, corrupted).argmax(1) == rows.labels_n)
        found = {}
        for c in candidates:
            hits_kn = np.stack(hits[c.name])
            found[c.arch, c.precision] = summarize_robustness(c, backends[c.name], hits_kn, rows, pictures, profile)
        return found


def corrupted_sets(images_nhwc: Bytes, severities: Sequence[int]) -> Iterator[Bytes]:
    """Yield the images under every corruption at every severity: the first corruption at all severities first."""
    for name in CORRUPTIONS:
        for severity in severities:
            # seeded by the row: every candidate, and every later run, sees the same corruption
            yield np.stack([corrupt(image, name, severity, seed) for seed, image in enumerate(images_nhwc)])


def classify(backend: Backend, images_nhwc: Bytes) -> Probs:
    """Return the probabilities, float32 (n, classes), computed in batches."""
    batch = backend.input_nhwc.shape[0]
    probs = []
    for start in range(0, len(images_nhwc), batch):
        part = images_nhwc[start : start + batch]  # the last one may be smaller than the backend's buffer
        backend.input_nhwc[: len(part)] = part
        probs.append(backend.infer(len(part)).copy())  # the backend answers into the same buffer each time
    return np.concatenate(probs)


def summarize_robustness(
    candidate: Candidate, backend: Backend, hits_kn: Bools, rows: RowSample, ood: Mapping[str, Bytes], profile: Profile
) -> Robustness:
    """Classify the clean rows and the out-of-distribution images; join the results with those of the corruptions.

    hits_kn: whether each row is right, under each corruption and severity.
    """
    rule = AbstainRule(candidate.bundle.abstain_threshold)
    probs_nc = classify(backend, rows.images_nhwc)
    clean_n = probs_nc.argmax(1) == rows.labels_n
    known_n = probs_nc.max(1)
    cells = hits_kn.mean(1).reshape(len(CORRUPTIONS), -1)
    # over all corruptions together, since a class has few rows in each of them
    recalls = {}
    for label in np.unique(rows.labels_n):
        recalls[rows.classes[label]] = float(hits_kn[:, rows.labels_n == label].mean())
    worst = min(recalls, key=lambda name: recalls[name])
    out = {}
    for what, images in ood.items():
        top_n = classify(backend, images).max(1)
        abstained = float((~rule.accepts_each(top_n)).mean())
        out[what] = OutOfDistribution(len(top_n), abstained, auroc(known_n, top_n))
    return Robustness(
        measured_on=candidate.backend,
        rows=len(rows.labels_n),
        severities=tuple(profile.severities),
        clean=float(clean_n.mean()),
        clean_interval=wilson(int(clean_n.sum()), len(clean_n)),
        mean=float(cells.mean()),
        worst_class=worst,
        worst_recall=recalls[worst],
        cells={name: tuple(row.tolist()) for name, row in zip(CORRUPTIONS, cells, strict=True)},
        ood=out,
        known_abstained=float((~rule.accepts_each(known_n)).mean()),
    )
