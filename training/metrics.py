"""The metrics of a network on a split, and its temperature."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    precision_recall_fscore_support,
)

from core.data.pack import Pack
from core.stats import calibration_error, risk_coverage
from models.deployed import DeployedNetwork
from training.compute.distribution import NOT_DISTRIBUTED, DistContext

Logits = NDArray[np.float32]
Labels = NDArray[np.int64]
EVAL_BATCH = 256
TEMPERATURES = (0.05, 20.0)
CURVE_POINTS = 51
"""The points of the curve of risk over coverage, of which a row for each image would be too many."""


def predict_logits(
    deployed: DeployedNetwork, pack: Pack, split: str, dist: DistContext = NOT_DISTRIBUTED
) -> tuple[Logits, Labels]:
    """Return the logits of a split, float32 (n, classes), computed without autocast, and its labels.

    Several processes share the work, so each must call this.
    """
    device = next(deployed.parameters()).device
    rows = pack.rows(split)
    was_training = deployed.training
    deployed.eval()
    logits = torch.zeros(len(rows), len(pack.classes))
    with torch.inference_mode():
        for start in range(dist.rank * EVAL_BATCH, len(rows), dist.size * EVAL_BATCH):
            part = slice(start, start + EVAL_BATCH)
            frames = torch.from_numpy(np.ascontiguousarray(pack.images_nhwc[rows[part]]))
            inputs = deployed.normalize(frames.to(device)).contiguous(memory_format=torch.channels_last)
            logits[part] = deployed.network(inputs).float().cpu()
    deployed.train(was_training)
    # each process filled its own rows and left zeros elsewhere, so the sum is all of them
    return dist.sum_over_processes(logits).numpy(), pack.labels_n[rows]


def loss_and_accuracy(logits_nc: Logits, labels_n: Labels) -> tuple[float, float]:
    """Return the mean cross entropy, without label smoothing, and the share of right answers."""
    log_probs_nc = log_softmax(logits_nc.astype(np.float64), 1)
    of_label = log_probs_nc[np.arange(len(labels_n)), labels_n]
    return float(-of_label.mean()), float(accuracy_score(labels_n, logits_nc.argmax(1)))


def fit_temperature(logits_nc: Logits, labels_n: Labels) -> float:
    """Return the temperature with the least cross entropy. Source: Guo et al. 2017, section 4.2."""
    # over the logarithm, because 0.5 is as far from 1 as 2 is
    minimum = minimize_scalar(
        lambda log_t: loss_and_accuracy(logits_nc / np.exp(log_t), labels_n)[0],
        bounds=tuple(np.log(TEMPERATURES)),
        method="bounded",
    )
    return float(np.exp(minimum.x))


def split_metrics(logits_nc: Logits, labels_n: Labels, classes: tuple[str, ...], temperature: float) -> dict[str, Any]:
    """Return the metrics of a split, as metrics.json holds them."""
    guesses = logits_nc.argmax(1)
    is_right = guesses == labels_n
    confidence, plain_confidence = (softmax(logits_nc / t, 1).max(1) for t in (temperature, 1))
    class_numbers = list(range(len(classes)))  # a class without rows in the split keeps its place in every table
    precision, recall, f1, support = precision_recall_fscore_support(
        labels_n, guesses, labels=class_numbers, zero_division=0.0
    )
    _, coverage, risk = risk_coverage(confidence, is_right)
    indices = np.unique(np.linspace(0, len(risk) - 1, CURVE_POINTS).astype(int))
    return {
        "rows": len(labels_n),
        "accuracy": float(accuracy_score(labels_n, guesses)),
        "balanced_accuracy": float(balanced_accuracy_score(labels_n, guesses)),
        "macro_f1": float(f1.mean()),
        "loss": loss_and_accuracy(logits_nc / temperature, labels_n)[0],
        "ece_before_temperature": calibration_error(plain_confidence, is_right),
        "ece": calibration_error(confidence, is_right),
        "per_class": {
            name: {
                "precision": float(precision[i]),
                "recall": float(recall[i]),
                "f1": float(f1[i]),
                "rows": int(support[i]),
            }
            for i, name in enumerate(classes)
        },
        "confusion_matrix": confusion_matrix(labels_n, guesses, labels=class_numbers).tolist(),
        "risk_coverage": [[float(coverage[i]), float(risk[i])] for i in indices],
    }
