"""The choice of a mode: by the least time at the recipe's batch, whatever the neighbours do."""

import itertools

import numpy as np
import pytest
import torch

from training import mode
from training.learner import Learner
from training.mode import HOPELESS_BATCH, Mode, choose_mode
from training.recipe import named

ARCH = "squeezenet_inspired"
FRAMES, LABELS = torch.zeros(2, 32, 32, 3, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64)
TIMES_MS = {"fp32 contiguous": 100.0, "fp32 channels_last": 90.0, "bf16 contiguous": 70.0, "bf16 channels_last": 60.0}


def both():
    """The candidates whose steps are compared when compilation is tried."""
    return [mode._candidate(ARCH, 3, Mode(compiled=compiled), "cpu") for compiled in (False, True)]


class Clock:
    """Steps that take no time but report TIMES_MS, `noise` times as much."""

    def __init__(self):
        self.steps, self.noise = [], itertools.repeat(1)

    def step(self, candidate, frames, labels):
        self.steps.append((str(candidate.mode), len(frames)))
        return TIMES_MS.get(str(candidate.mode), 1000.0) * len(frames) / 64 * next(self.noise)


@pytest.fixture
def clock(monkeypatch):
    it = Clock()
    monkeypatch.setattr(mode._Candidate, "step", lambda self, frames, labels: it.step(self, frames, labels))
    monkeypatch.setattr(mode, "precisions_here", lambda device: ("fp32", "bf16", "fp16"))
    return it


def test_the_fastest_is_chosen_at_the_recipes_batch(clock):
    chosen, timed_ms = choose_mode(ARCH, 3, 32, 64)
    assert chosen == Mode("bf16", "channels_last")
    assert timed_ms["bf16 channels_last"] == 60.0
    assert ("bf16 channels_last", 64) in clock.steps


def test_a_hopeless_combination_is_never_timed_at_full_size(clock):
    choose_mode(ARCH, 3, 32, 64)
    assert ("fp16 contiguous", HOPELESS_BATCH) in clock.steps
    assert ("fp16 contiguous", 64) not in clock.steps


@pytest.mark.parametrize("seed", range(20))
def test_a_neighbour_that_doubles_a_third_of_the_steps_does_not_decide(clock, seed):
    random = np.random.default_rng(seed)
    clock.noise = (1 + (random.random() < 1 / 3) for _ in itertools.count())
    assert choose_mode(ARCH, 3, 32, 64)[0] == Mode("bf16", "channels_last")


def test_one_combination_left_is_not_timed(clock):
    assert choose_mode(ARCH, 3, 32, 64, "cpu", ("fp16", "contiguous")) == (Mode("fp16", "contiguous"), {})
    assert not clock.steps


@pytest.mark.parametrize(("steps", "shapes", "pays"), [(2900, 1, False), (3100, 1, True), (3100, 2, False)])
def test_compilation_has_to_pay_within_the_run(monkeypatch, steps, shapes, pays):
    """It takes 30 s, in which the process itself may only have waited, and takes a step from 20 to 10 ms."""
    now_s = [0.0]

    def step(self, frames, labels):
        now_s[0] += 30.0 * (self.mode.compiled and not now_s[0])
        return 10.0 if self.mode.compiled else 20.0

    monkeypatch.setattr(mode._Candidate, "step", step)
    monkeypatch.setattr(mode, "perf_counter", lambda: now_s[0])
    assert mode._compiling_pays(*both(), FRAMES, LABELS, steps, shapes, {}) is pays


@pytest.mark.parametrize(("steps", "tried"), [(59_999, []), (60_000, [60_000])])
def test_on_a_cpu_compilation_is_tried_only_in_a_run_of_hours(clock, monkeypatch, steps, tried):
    """An hour is 60,000 steps of the fastest, 60 ms."""
    asked = []
    monkeypatch.setattr(mode, "_compiling_pays", lambda *given: asked.append(given[-3]) or True)
    chosen, _ = choose_mode(ARCH, 3, 32, 64, compiling="auto", steps=steps)
    assert asked == tried
    assert chosen.compiled is bool(tried)


def test_where_nothing_can_be_compiled_it_says_why_and_trains_on(monkeypatch, capsys):
    def broken(graph, inputs):
        raise RuntimeError("no C++ compiler\nand a page of hints")

    monkeypatch.setattr(mode, "BACKEND", broken)
    assert mode._compiling_pays(*both(), FRAMES, LABELS, 10**9, 1, {}) is False
    said = capsys.readouterr().err
    assert "torch.compile is not used" in said
    assert "no C++ compiler" in said
    assert len(said.splitlines()) == 1


def test_a_compiled_step_is_the_plain_one(monkeypatch):
    monkeypatch.setattr(mode, "BACKEND", "eager")
    frames = torch.randint(0, 256, (8, 32, 32, 3), dtype=torch.uint8)
    learners = [Learner(ARCH, 3, named("edge"), Mode("fp32", "contiguous", compiled)) for compiled in (True, False)]
    for one in learners:
        for number in range(2):
            one.step(frames, torch.arange(8) % 3, 1e-3, number)
    ours, theirs = (one.tensors() for one in learners)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_no_shape_of_a_batch_is_one_too_many_to_be_compiled(monkeypatch):
    """Left to itself torch.compile gives up after 8, and goes on eager."""
    compiled = []
    monkeypatch.setattr(mode, "BACKEND", lambda graph, inputs: compiled.append(inputs[-1].shape) or graph)
    network = torch.nn.Conv2d(3, 4, 3)
    run = Mode("fp32", "contiguous", compiled=True).runnable(network)
    for side in range(8, 8 + 12):
        run(torch.zeros(1, 3, side, side))
    assert len(compiled) == 12


def test_run_json_written_before_compilation_was_known_is_read():
    assert Mode.from_json({"precision": "bf16", "memory_format": "contiguous"}) == Mode("bf16", "contiguous", False)
