"""The calibrator sees rows of the calibration slice alone, class-balanced, byte for byte."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from export.precision.int8 import plan_quantization
from export.quantize import calibration
from export.quantize.calibration import BINS, Histogram


def test_rows_are_of_the_calibration_slice_and_balanced(pack):
    rows = calibration.calibration_rows(pack, 30)
    assert set(pack.splits_n[rows]) == {"calibration"}
    assert np.bincount(pack.labels_n[rows]).tolist() == [10, 10, 10]


def test_a_short_class_does_not_shorten_the_others(pack):
    rows = calibration.calibration_rows(pack, 10_000)
    assert rows.tolist() == pack.rows("calibration").tolist()


def test_pack_rows_are_fed_unchanged(fp32, pack):
    seen = []
    observer = calibration.Observer(fp32, plan_quantization(fp32).tensors)
    session = observer._session

    class Recorder:
        def run(self, names, feed):
            seen.append(feed["frames"].copy())
            return session.run(names, feed)

    observer._session = Recorder()
    rows = calibration.calibration_rows(pack, 20)
    calibration.build_histograms(observer, pack.images_nhwc, rows)
    once = np.concatenate(seen)[: len(rows)]
    assert np.array_equal(once, pack.images_nhwc[rows])


def test_the_observed_range_is_the_largest_magnitude(fp32, pack):
    name = next(n for n in fp32.graph.node if n.op_type == "BatchNormalization").output[0]
    histograms = calibration.build_histograms(calibration.Observer(fp32, [name]), pack.images_nhwc, np.arange(12))
    images = pack.images_nhwc[:12] / 255
    expected = np.abs((images - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)).max()
    assert histograms[name].amax == pytest.approx(expected, rel=1e-5)
    assert histograms[name].counts.sum() == images.size


@given(hnp.arrays(np.int64, BINS, elements=st.integers(0, 1000)), st.floats(1e-3, 1e3))
@settings(max_examples=30)
def test_every_method_stays_within_the_observed_range(counts, amax):
    counts[-1] += 1
    histogram = Histogram(amax, counts)
    for method in calibration.METHODS:
        assert 0 < calibration.choose_ranges({"x": histogram}, method)["x"] <= amax * (1 + 1e-9)


def test_percentile_and_entropy_cut_a_lone_outlier():
    counts = np.zeros(BINS, np.int64)
    counts[:200] = np.linspace(10_000, 100, 200)
    counts[-1] = 1
    histogram = Histogram(1.0, counts)
    assert histogram.percentile(99.99) < 0.1
    assert histogram.entropy() < 0.2


def test_nothing_watched_gives_nothing(fp32, pack):
    assert calibration.channel_ranges(fp32, [], pack.images_nhwc, np.arange(2)) == {}
