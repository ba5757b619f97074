"""Load for minutes, and the energy of a frame: windows, changes of rank, and what has no meter."""

from __future__ import annotations

from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.measure.speed import energy, sustained
from benchmarks.measure.speed.energy import measure_energies
from benchmarks.measure.speed.sustained import find_rank_changes, measure_drift, summarize_sustained, sustain
from benchmarks.measure.speed.timed_frames import synthetic_frames
from benchmarks.results.run import RankChange, Window
from tests.benchmarks.measure.speed.test_latency import Recorder


def windows_of(times):
    return tuple(Window(float(i), dict(zip("abc", row, strict=False)), {}) for i, row in enumerate(times))


@pytest.fixture
def meter(monkeypatch):
    """Return a function that says what the machine's meters read."""

    def reads(meters=dict, joules=lambda: None):
        for module in (energy, sustained):
            monkeypatch.setattr(module, "read_meters", meters)
        monkeypatch.setattr(energy, "read_joules", joules)

    return reads


def test_the_load_lasts_as_long_as_asked_and_reads_the_meters(meter, monkeypatch):
    now, degrees = count(), count(40)
    meter(lambda: {"temperature_c": float(next(degrees))})
    monkeypatch.setattr(sustained, "perf_counter", lambda: float(next(now)))
    windows = sustain({name: Recorder(name, []) for name in "ab"}, synthetic_frames(2, (160, 96)), minutes=1, windows=4)
    minutes = [window.minute for window in windows]
    assert len(minutes) == 4
    assert minutes == sorted(minutes)
    assert minutes[-1] == pytest.approx(1, abs=0.1)
    heat = [window.meters["temperature_c"] for window in windows]
    assert heat == sorted(heat)
    assert heat[-1] > heat[0]
    assert all(set(window.p50_ms) == {"a", "b"} for window in windows)


def test_a_window_holds_a_round_however_short_it_is(meter):
    meter()
    windows = sustain({"a": Recorder("a", [])}, synthetic_frames(1, (160, 96)), 1e-9, windows=3)
    assert len(windows) == 3
    assert not any(window.meters for window in windows)


def test_who_changes_places_is_found_once_and_noise_is_not():
    windows = windows_of([(1.0, 1.2, 5.0), (1.1, 1.2, 5.0), (1.3, 1.2, 5.0), (1.4, 1.2, 5.0)])
    assert find_rank_changes(windows, 0.05) == (RankChange(2.0, "b", "a"),)
    assert find_rank_changes(windows, 0.3) == ()
    said = summarize_sustained(4.0, windows, 0.05)
    assert "1 pair of candidates changed order beyond the noise; first, b overtook a at minute 2.0" in said.sentence
    assert said.drift["a"] == pytest.approx(1.4)


@given(st.lists(st.tuples(*[st.floats(0.1, 10)] * 3), min_size=2, max_size=8), st.floats(0.001, 0.5))
def test_a_change_of_rank_is_a_pair_whose_order_turned(times, floor):
    windows = windows_of(times)
    found = {(event.faster, event.slower) for event in find_rank_changes(windows, floor)}
    first = windows[0].p50_ms
    for faster in "abc":
        for slower in "abc":
            turned = first[slower] * (1 + floor) < first[faster] and any(
                w.p50_ms[faster] * (1 + floor) < w.p50_ms[slower] for w in windows[1:]
            )
            assert ((faster, slower) in found) == turned


def test_a_steady_machine_does_not_drift():
    assert measure_drift(windows_of([(1, 2, 3)] * 5)) == {"a": 1, "b": 1, "c": 1}


class Slow:
    def process(self, frame):
        return None


def test_energy_is_the_joules_counted_over_the_frames(meter):
    counted = iter([0.0, 10.0, 16.0])
    meter(joules=lambda: next(counted))
    made = measure_energies({"a": Slow()}, synthetic_frames(1, (160, 96)), seconds=0.01)
    assert made["a"] > 0


def test_energy_is_watts_over_time_where_nothing_counts_joules(meter, monkeypatch):
    frames, now_ms = synthetic_frames(1, (160, 96)), count()
    monkeypatch.setattr(energy, "perf_counter", lambda: next(now_ms) / 1000)

    def measured(watts):
        meter(lambda: {"power_w": watts})
        return measure_energies({"a": Slow()}, frames, seconds=0.02)["a"]

    assert measured(1000.0) > 10 * measured(1.0)


def test_without_a_meter_energy_is_not_measured(meter):
    meter()
    assert measure_energies({"a": Slow()}, synthetic_frames(1, (160, 96))) == {}
