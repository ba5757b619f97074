import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from torchmetrics.functional.classification import multiclass_calibration_error

from training import metrics

seeds = st.integers(0, 10_000)


def sample(seed, n=200, classes=4, sharpness=2.0):
    """Logits that are the true log odds of their labels, times `sharpness`."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 1.5, (n, classes))
    labels = np.array([random.choice(classes, p=p) for p in softmax(logits, 1)])
    return (logits * sharpness).astype(np.float32), labels


@given(st.floats(0.4, 4.0))
def test_temperature_undoes_overconfidence(sharpness):
    logits, labels = sample(3, n=4000, sharpness=sharpness)
    assert metrics.fit_temperature(logits, labels) == pytest.approx(sharpness, rel=0.12)


def test_a_reports_calibration_errors_are_torchmetrics_before_and_after_temperature():
    logits, labels = sample(2, n=500)
    report = metrics.split_metrics(logits, labels, ("a", "b", "c", "d"), 2.0)
    for name, temperature in (("ece_before_temperature", 1.0), ("ece", 2.0)):
        probs = torch.from_numpy(softmax(logits / temperature, 1))
        expected = multiclass_calibration_error(probs, torch.from_numpy(labels), 4, n_bins=15)
        assert report[name] == pytest.approx(float(expected), abs=1e-6)


def test_a_report_counts_every_row_once():
    logits, labels = sample(1)
    report = metrics.split_metrics(logits, labels, ("a", "b", "c", "d"), 1.0)
    assert np.sum(report["confusion_matrix"]) == report["rows"] == len(labels)
    assert np.trace(report["confusion_matrix"]) / len(labels) == pytest.approx(report["accuracy"])
