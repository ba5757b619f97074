"""The gate: a significant loss fails, noise does not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.proportion import confint_proportions_2indep

from benchmarks.choose.choice import choose
from benchmarks.choose.policy import Policy
from benchmarks.choose.regressions import find_regressions
from benchmarks.commands import gate
from benchmarks.report.results_file import DeviceReport, read_reports, write_reports
from core.errors import CheckError, InputError
from core.stats import Interval, difference_interval


@pytest.fixture(scope="module")
def results(measured_run):
    return read_reports(measured_run / "report" / "results.json")[0].results


def failures(before, now):
    return [case.name for case in find_regressions(before, now) if case.failure]


def with_row(results, number, **figures):
    """Return the results with other figures of one candidate."""
    rows = list(results.candidates)
    rows[number] = replace(rows[number], **figures)
    return replace(results, candidates=tuple(rows))


def spoil(results, part):
    """Return results in which the first candidate has another `part` of its right rows wrong."""
    labels, accuracy = results.labels_n, results.candidates[0].accuracy
    answers = accuracy.predicted_n.copy()
    right = np.flatnonzero(labels == answers)[: round(part * len(labels))]
    answers[right] = (labels[right] + 1) % len(results.pack.classes)
    hits = int((answers == labels).sum())
    worse = replace(accuracy, predicted_n=answers, hits=hits, top1=hits / len(labels))
    return with_row(results, 0, accuracy=worse)


def slowed(results, factor):
    latency = results.candidates[0].latency
    p50 = factor * latency.frame_ms.p50
    return with_row(results, 0, latency=replace(latency, frame_ms=replace(latency.frame_ms, p50=p50)))


def test_the_same_results_pass(results):
    cases = find_regressions(results, results)
    assert len(cases) == 2 * len(results.candidates)
    assert not [case for case in cases if case.failure or case.skipped]


def test_a_significant_loss_fails_and_one_row_does_not(results):
    assert failures(results, spoil(results, 0.3)) == ["tiny_a fp32 ort x1 accuracy"]
    assert failures(results, spoil(results, 0.02)) == []
    assert failures(spoil(results, 0.3), results) == [], "a gain is no failure"


def test_other_rows_are_compared_as_independent(results):
    other = replace(spoil(results, 0.3), pack=replace(results.pack, fingerprint="another"))
    case = next(c for c in find_regressions(results, other) if c.name == "tiny_a fp32 ort x1 accuracy")
    assert "other rows" in case.detail
    assert case.failure


@pytest.mark.parametrize(("factor", "fails"), [(0.5, False), (1.05, False), (1.3, True)])
def test_time_fails_only_beyond_the_noise_of_both(results, factor, fails):
    noise = replace(results.noise, ratio=Interval(0.96, 1.05), median_ratio=Interval(1.0, 1.0))
    before = replace(results, noise=noise)
    assert bool(failures(before, slowed(before, factor))) is fails


def test_another_machine_is_not_compared_in_time(results):
    now = slowed(replace(results, machine=replace(results.machine, name="the other box")), 10)
    cases = find_regressions(results, now)
    assert [c.name for c in cases if c.failure] == []
    assert len([c for c in cases if c.skipped]) == len(results.candidates)


def test_a_candidate_that_is_gone_fails(results):
    now = replace(results, candidates=results.candidates[1:])
    assert failures(results, now) == [results.candidates[0].name]


def test_another_best_thread_count_is_the_same_candidate(results):
    first = results.candidates[0]
    now = with_row(slowed(results, 1.0), 0, threads=first.threads + 1)
    checks = {check.name: check for check in find_regressions(results, now)}
    assert not [check for check in checks.values() if check.failure]
    assert "(x1 was the best thread count then, x2 is now)" in checks[f"{first.name} time"].detail
    assert failures(results, with_row(slowed(results, 9), 0, threads=2)) == [f"{first.name} time"]
    # where counts were named, each is a candidate of its own
    both = replace(results, candidates=(*results.candidates, replace(first, threads=4)))
    assert failures(both, now) == [first.name, f"{first.arch} {first.precision} {first.backend} x4"]


def test_times_with_a_detector_are_not_compared_with_those_of_zones(results):
    now = replace(results, protocol=replace(results.protocol, regions="the boxes of the detector, tracked"))
    with pytest.raises(InputError, match="the baseline timed one zone, these results the boxes of the detector"):
        find_regressions(results, now)


def test_a_loss_is_exit_1_and_said(results, measured_run, tmp_path, capsys):
    write_reports(tmp_path, [DeviceReport(spoil(results, 0.3), choose(results, Policy()))])
    with pytest.raises(CheckError, match="tiny_a fp32 ort x1 accuracy: loss"):
        gate.main([str(tmp_path / "results.json"), "--baseline", str(measured_run)])
    assert "FAILED" in capsys.readouterr().out
    gate.main([str(measured_run), "--baseline", str(measured_run)])


counts = st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(counts, counts)
def test_newcombes_interval_is_that_of_statsmodels(a, b):
    expected = confint_proportions_2indep(*a, *b, method="newcomb", compare="diff")
    assert difference_interval(*a, *b) == pytest.approx(expected, abs=1e-8)
