"""What smoothing costs and what it gives: accuracy, time to decision, false switches, on scenes whose truth is known.

The network answers every frame once; each setting of decision.json is then tried on the same answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.bundle.contract import Bundle
from core.synthetic import ZONES, Scene
from inference.frame.abstain import AbstainRule
from inference.frame.classifier import RegionClassifier
from inference.frame.decider import Decider
from inference.frame.quality import QualityReport
from inference.frame.regions import Regions, Zones
from inference.frame.smoothing import SmoothingConfig, TemporalSmoother

SCENARIOS = ("day", "dusk", "night", "rain")
FIRST_SEED = 900_001
"""Far from the scenes that synthetic packs are made of."""
SIZE_PX, FPS = (1280, 720), 30.0
SHORTEST_S = 0.5
"""A class that is there for less is not asked to be found in time."""
Texts = Sequence[str | None]


@dataclass(frozen=True)
class Answers:
    """What the network said of one scene. probs_fzc: float32 (frames, zones, classes); truth: frame, then zone."""

    scenario: str
    fps: float
    probs_fzc: NDArray[np.float32]
    truth: list[list[str]]


@dataclass(frozen=True)
class Outcome:
    """What came of one setting, over all zones of all scenes."""

    smoothing: SmoothingConfig
    threshold: float
    """A class is said from this probability on."""
    frames: int
    """Zones times frames."""
    said: float
    """The part of frames in which a class was said."""
    right_of_said: float
    right: float
    """The part of all frames in which the right class was said."""
    time_p50_ms: float | None
    """From a change of the truth to the first time the new class is said, where it is; None where it never is."""
    time_p90_ms: float | None
    missed: float
    """The part of changes after which the new class was never said."""
    false_switches_per_minute: float
    """Changes to a wrong class, a zone."""


def ask(classifier: RegionClassifier, seconds: float) -> Iterator[Answers]:
    """Yield the network's answers to one scene of each scenario."""
    zones = Zones(ZONES)
    rects = zones.rects(*SIZE_PX)
    for number, scenario in enumerate(SCENARIOS):
        scene = Scene(FIRST_SEED + number, *SIZE_PX, scenario, FPS)
        probs, truth = [], []
        for index in range(round(seconds * FPS)):
            frame, labels = scene.render(index)
            probs.append(classifier.classify(frame, rects).copy())
            truth.append([labels[name] for name in zones.names])
        yield Answers(scenario, FPS, np.stack(probs), truth)


def labels_of(bundle: Bundle, answers: Answers, smoothing: SmoothingConfig) -> list[list[str | None]]:
    """Return the label of each frame, zone by zone, by the runner's own decider: only the pictures are left out."""
    rule = AbstainRule(bundle.abstain_threshold)
    decider = Decider(bundle.classes, rule, TemporalSmoother(smoothing, rule))
    regions, good = Regions(list(ZONES), [(0, 0, 1, 1)] * len(ZONES), {}), QualityReport([None] * len(ZONES), False)
    labels = []
    for index, probs_zc in enumerate(answers.probs_fzc):
        verdicts, _, _ = decider.decide(regions, probs_zc, good, index * 1000 / answers.fps)
        labels.append([v.label for v in verdicts])
    return labels


def judge(bundle: Bundle, scenes: Sequence[Answers], smoothing: SmoothingConfig) -> Outcome:
    """Try one setting on all scenes."""
    frames = said_n = right_n = switches = 0
    times: list[float | None] = []
    minutes = 0.0
    for answers in scenes:
        labels = labels_of(bundle, answers, smoothing)
        for zone in range(len(ZONES)):
            truth, said = [row[zone] for row in answers.truth], [row[zone] for row in labels]
            frames += len(truth)
            said_n += sum(label is not None for label in said)
            right_n += sum(a == b for a, b in zip(truth, said, strict=True))
            switches += count_false_switches(truth, said)
            times += times_to_decision(truth, said, answers.fps)
            minutes += len(truth) / answers.fps / 60
    found = [time for time in times if time is not None]
    p50, p90 = (float(v) for v in np.percentile(found, (50, 90))) if found else (None, None)
    return Outcome(
        smoothing, bundle.abstain_threshold, frames, said_n / frames, right_n / max(said_n, 1), right_n / frames,
        p50, p90, 1 - len(found) / max(len(times), 1), switches / minutes,
    )  # fmt: skip


def count_false_switches(truth: Sequence[str], said: Texts) -> int:
    """Count the changes of what is said to a class that is not there; silence in between changes nothing."""
    count, last = 0, None
    for label, fact in zip(said, truth, strict=True):
        if label is not None and label != last:
            count += last is not None and label != fact
            last = label
    return count


def times_to_decision(truth: Sequence[str], said: Texts, fps: float) -> list[float | None]:
    """Return the milliseconds from each change of the truth to the first time it is said; None for never."""
    starts = [i for i in range(1, len(truth)) if truth[i] != truth[i - 1]]
    times: list[float | None] = []
    ends = [*starts[1:], len(truth)] if starts else []
    for start, end in zip(starts, ends, strict=True):
        if (end - start) / fps >= SHORTEST_S:
            hit = next((i for i in range(start, end) if said[i] == truth[start]), None)
            times.append(None if hit is None else (hit - start) * 1000 / fps)
    return times
