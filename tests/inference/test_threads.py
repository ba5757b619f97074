"""Thread counts: probed once a machine, remembered whole or not at all, overridden by --threads."""

from __future__ import annotations

import os
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference import threads
from inference.backends.null import NullBackend
from inference.commands.run import drive, read_arguments
from inference.process import cores, cpu_model
from tests.bundles import make_bundle


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "rearguard" / "threads.json"


@pytest.fixture
def two_cores(monkeypatch):
    for name in ("inference.threads.cores", "inference.process.cores"):
        monkeypatch.setattr(name, lambda: 2)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("threads") / "bundle")


class Paced(NullBackend):
    """Takes its time with one thread, none with two."""

    def __init__(self, bundle, precision, batch, count):
        super().__init__(bundle, precision, batch)
        self._wait_s = 0.02 if count == 1 else 0.0

    def infer(self, n):
        time.sleep(self._wait_s)
        return super().infer(n)


def pace(monkeypatch):
    opened = []

    def open_paced(name, bundle, precision, *, batch=1, threads=None):
        opened.append(threads)
        return Paced(bundle, precision, batch, threads)

    monkeypatch.setattr(threads, "open_backend", open_paced)
    return opened


def test_the_fastest_count_is_remembered(bundle, cache, two_cores, monkeypatch, capsys):
    opened = pace(monkeypatch)
    threads.Probe(bundle, "ort", "fp32", 3).run()
    assert opened == [1, 2]
    assert threads.remembered(threads.key_of(bundle, "ort", "fp32", 3)) == 2
    assert threads.remembered(threads.key_of(bundle, "ort", "fp32", 1)) is None
    assert "threads     2 from the next start on" in capsys.readouterr().err


def test_a_probe_that_is_ended_remembers_nothing(bundle, cache, two_cores, monkeypatch):
    pace(monkeypatch)
    probe = threads.Probe(bundle, "ort", "fp32", 1)
    probe.end()
    probe.run()
    assert not cache.exists()


def test_a_probe_that_fails_is_said_and_nothing_else(bundle, cache, two_cores, monkeypatch, capsys):
    def broken(*_, **__):
        raise RuntimeError("no\nmemory")

    monkeypatch.setattr(threads, "open_backend", broken)
    threads.Probe(bundle, "ort", "fp32", 1).run()
    assert capsys.readouterr().err == "threads     not probed: no memory\n"


def test_a_cache_that_cannot_be_written_is_no_fault(bundle, two_cores, monkeypatch):
    pace(monkeypatch)
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    threads.Probe(bundle, "ort", "fp32", 1).run()


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"key": 3}', '{"key": {"threads": "2"}}', '{"key": {"threads": 999}}']
)
def test_a_damaged_cache_is_none(cache, text):
    cache.parent.mkdir(parents=True)
    cache.write_text(text)
    assert threads.remembered("key") is None
    threads.remember("key", 1, {1: 0.5})
    assert threads.remembered("key") == 1


def test_the_oldest_entries_go(cache, monkeypatch):
    monkeypatch.setattr(threads, "ENTRIES_KEPT", 2)
    for i in range(4):
        threads.remember(str(i), 1, {})
    assert [threads.remembered(str(i)) for i in range(4)] == [None, None, 1, 1]


@given(st.dictionaries(st.integers(1, 64), st.floats(0.01, 100), min_size=1, max_size=7))
def test_the_smallest_count_about_as_fast_as_the_fastest_is_taken(medians):
    taken = threads.fastest(medians)
    assert medians[taken] <= 1.1 * min(medians.values())
    assert not [n for n in medians if n < taken and medians[n] <= 1.1 * min(medians.values())]


@pytest.mark.parametrize(("most", "tried"), [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8])])
def test_powers_of_two_and_all_are_tried(most, tried):
    assert threads.counts(most) == tried


def test_the_choice_counts_where_it_was_measured(bundle):
    here = {"cpu": cpu_model(), "cores": cores()}
    assert threads.chosen_here(replace(bundle, choice={"threads": 3, "machine": here})) == 3
    assert threads.chosen_here(replace(bundle, choice={"threads": 3, "machine": here | {"cores": 999}})) is None
    assert threads.chosen_here(replace(bundle, choice={"threads": 3})) is None
    assert threads.chosen_here(bundle) is None


def run(bundle, *arguments):
    source = f"synthetic://?frames={threads.PROBE_AFTER + 5}&width=160&height=90"
    return drive(read_arguments([str(bundle.path), "--source", source, "--backend", "ort", *arguments]))


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core needs no probe")
def test_a_drive_probes_after_its_first_decisions_and_the_next_one_takes_what_was_found(bundle, cache, monkeypatch):
    started = []
    monkeypatch.setattr(threads.Probe, "start", lambda self: started.append(self))
    assert run(bundle, "--threads", "1")["backend"]["threads"] == 1
    assert started == []
    run(bundle, "--frames", str(threads.PROBE_AFTER - 1))
    assert started == []
    assert run(bundle)["backend"]["threads"] == cores()
    assert len(started) == 1
    threads.remember(threads.key_of(bundle, "ort", "int8", 3), 1, {})
    assert run(bundle)["backend"]["threads"] == 1
    assert len(started) == 1
