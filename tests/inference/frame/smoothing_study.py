"""Measure the delay and the false switches of temporal smoothing, on synthetic scenes with known ground truth.

The network answers every frame once; each smoothing setting is then tried on the same answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure.machine import describe_machine
from benchmarks.studies.dated import markdown_table, write_dated
from core.bundle.abstain import AbstainRule
from core.bundle.contract import Bundle
from core.synthetic import ZONES, Scene
from inference.backends import open_backend
from inference.frame.classifier import RegionClassifier
from inference.frame.decider import Decider
from inference.frame.quality import QualityReport
from inference.frame.regions import Regions, Zones
from inference.frame.smoothing import SmoothingConfig, TemporalSmoother
from inference.runner.selection import pick_backend_and_precision

SCENARIOS = ("day", "dusk", "night", "rain")
FIRST_SEED = 900_001
"""The first seed of the scenes, beyond the seeds of synthetic packs."""
SIZE_PX, FPS = (1280, 720), 30.0
SHORTEST_S = 0.5
"""Changes that last less than this are not counted."""
RAW = SmoothingConfig(smooth_ms=0, margin=0, hold_ms=0)
SMOOTH_MS = (0, 50, 100, 150, 200, 300, 500, 800)
MARGINS = (0.0, 0.1, 0.2, 0.3, 0.4)
HOLDS_MS = (0, 200, 400, 800)
COLUMNS = (
    "threshold", "smooth_ms", "margin", "hold_ms", "labeled", "right of labeled", "right", "time p50 ms", "p90",
    "missed", "false/min",
)  # fmt: skip
ShownLabels = Sequence[str | None]


@dataclass(frozen=True, eq=False)
class SceneAnswers:
    """The network's answers to one scene. probs_fzc: float32 (frames, zones, classes); truth: frame, then zone."""

    probs_fzc: NDArray[np.float32]
    truth: list[list[str]]


@dataclass(frozen=True)
class SmoothingOutcome:
    """The results of one setting, over all zones of all scenes."""

    smooth_ms: float
    margin: float
    hold_ms: float
    threshold: float
    """The abstain threshold: below this probability no class is shown."""
    frames: int
    """Zones times frames."""
    labeled: float
    """The part of frames in which a class was shown."""
    right_of_labeled: float
    right: float
    """The part of all frames in which the right class was shown."""
    time_p50_ms: float | None
    """Median time from a change of the true class until it is shown; None where it never is."""
    time_p90_ms: float | None
    missed: float
    """The part of changes after which the new class was never shown."""
    false_switches_per_minute: float
    """Changes of the shown class to a wrong one, per minute of one zone."""


def study(bundle: Bundle, seconds: float, out: Path, plot: Path) -> None:
    """Try every setting on `seconds` of each scenario; write the dated table and its plot."""
    name, precision = pick_backend_and_precision(bundle, None, None)
    with open_backend(name, bundle, precision, batch=len(ZONES), threads=1) as backend:
        scenes = list(answer_scenes(RegionClassifier(bundle, backend), seconds))
    thresholds = sorted({bundle.abstain_threshold, 0.0}, reverse=True)  # 0: as if it never abstained
    bundles = [replace(bundle, abstain_threshold=threshold) for threshold in thresholds]
    # the network answers once; each setting replays its answers
    outcomes = [evaluate(bundle, scenes, smoothing) for bundle in bundles for smoothing in list_settings()]
    facts = {"arch": bundle.arch, "precision": precision, "abstain_threshold": bundle.abstain_threshold}
    body = {"synthetic": True, **facts, "seconds": seconds, "machine": describe_machine(), "rows": outcomes}
    lines = [
        f"{bundle.arch} {precision}, which abstains under {bundle.abstain_threshold:.2f}, and as if it never did;"
        f" {seconds:g} s each of {', '.join(SCENARIOS)} (synthetic), 30 frames/s, three zones. Right: the right"
        " class was shown, of all frames. Time: from a change of the truth to the new class. False: changes to a wrong"
        " class, a zone and minute.",
        "",
        *markdown_table(COLUMNS, map(as_row, outcomes)),
    ]
    write_dated(out, "smoothing", body, "Smoothing", lines)
    draw(outcomes, plot)


def list_settings() -> list[SmoothingConfig]:
    """Return the settings to try: time constants without and with the default margin, then margins, then holds."""
    plain = [replace(RAW, smooth_ms=ms) for ms in SMOOTH_MS]
    default = [replace(SmoothingConfig(), smooth_ms=ms) for ms in SMOOTH_MS]
    margins = [replace(SmoothingConfig(), margin=margin) for margin in MARGINS]
    holds = [replace(SmoothingConfig(), margin=0, hold_ms=ms) for ms in HOLDS_MS]
    # the lists meet in the default, which is tried once
    return list(dict.fromkeys([*plain, *default, *margins, *holds]))


def answer_scenes(classifier: RegionClassifier, seconds: float) -> Iterator[SceneAnswers]:
    """Yield the network's answers to one scene of each scenario."""
    zones = Zones(ZONES)
    rects = zones.rects(*SIZE_PX)
    for number, scenario in enumerate(SCENARIOS):
        scene = Scene(FIRST_SEED + number, *SIZE_PX, scenario, FPS)
        probs, truth = [], []
        for index in range(round(seconds * FPS)):
            frame, labels = scene.render(index)
            probs.append(classifier.classify(frame, rects).copy())  # the backend reuses its buffer
            truth.append([labels[name] for name in zones.names])
        yield SceneAnswers(np.stack(probs), truth)


def labels_of(bundle: Bundle, answers: SceneAnswers, smoothing: SmoothingConfig) -> list[list[str | None]]:
    """Return the labels of each frame, zone by zone, from the runner's own Decider."""
    rule = AbstainRule(bundle.abstain_threshold)
    decider = Decider(bundle.classes, rule, TemporalSmoother(smoothing, rule))
    # every zone is seen: what is studied is smoothing, not blindness
    regions = Regions(list(ZONES), [(0, 0, 1, 1)] * len(ZONES), {})
    good = QualityReport([None] * len(ZONES), False)
    labels = []
    for index, probs_zc in enumerate(answers.probs_fzc):
        verdicts, _, _ = decider.decide(regions, probs_zc, good, index * 1000 / FPS)
        labels.append([v.label for v in verdicts])
    return labels


def evaluate(bundle: Bundle, scenes: Sequence[SceneAnswers], smoothing: SmoothingConfig) -> SmoothingOutcome:
    """Try one setting on all scenes."""
    labels = [labels_of(bundle, answers, smoothing) for answers in scenes]
    pairs = [
        ([row[zone] for row in answers.truth], [row[zone] for row in shown])
        for answers, shown in zip(scenes, labels, strict=True)
        for zone in range(len(ZONES))
    ]
    frames = sum(len(truth) for truth, _ in pairs)
    labeled = sum(label is not None for _, shown in pairs for label in shown)
    right = sum(a == b for truth, shown in pairs for a, b in zip(truth, shown, strict=True))
    times = [time for truth, shown in pairs for time in times_to_decision(truth, shown, FPS)]
    found = [time for time in times if time is not None]
    p50, p90 = np.percentile(found, (50, 90)).tolist() if found else (None, None)
    return SmoothingOutcome(
        smooth_ms=smoothing.smooth_ms,
        margin=smoothing.margin,
        hold_ms=smoothing.hold_ms,
        threshold=bundle.abstain_threshold,
        frames=frames,
        labeled=labeled / frames,
        right_of_labeled=right / max(labeled, 1),
        right=right / frames,
        time_p50_ms=p50,
        time_p90_ms=p90,
        missed=1 - len(found) / max(len(times), 1),
        false_switches_per_minute=sum(count_false_switches(*pair) for pair in pairs) / (frames / FPS / 60),
    )


def count_false_switches(truth: Sequence[str], shown: ShownLabels) -> int:
    """Count the changes of the shown label to a wrong class; frames without a label are skipped."""
    count, last = 0, None
    for label, true in zip(shown, truth, strict=True):
        if label is not None and label != last:
            # the first label replaces none, and a change to the right class is no false switch
            count += last is not None and label != true
            last = label
    return count


def times_to_decision(truth: Sequence[str], shown: ShownLabels, fps: float) -> list[float | None]:
    """Return the milliseconds from each change of the true class until it is shown; None where it never is."""
    starts = [i for i in range(1, len(truth)) if truth[i] != truth[i - 1]]
    ends = [*starts[1:], len(truth)]
    times: list[float | None] = []
    for start, end in zip(starts, ends, strict=False):  # without a change, ends still holds one value
        if (end - start) / fps < SHORTEST_S:
            continue
        hit = next((i for i in range(start, end) if shown[i] == truth[start]), None)
        times.append(None if hit is None else (hit - start) * 1000 / fps)
    return times


def as_row(outcome: SmoothingOutcome) -> list[str]:
    """Return one line of the table; the defaults are set in bold."""
    cells = [f"{outcome.threshold:.2f}", f"{outcome.smooth_ms:g}", f"{outcome.margin:g}", f"{outcome.hold_ms:g}"]
    cells += [f"{100 * value:.1f}%" for value in (outcome.labeled, outcome.right_of_labeled, outcome.right)]
    cells += ["-" if ms is None else f"{ms:.0f}" for ms in (outcome.time_p50_ms, outcome.time_p90_ms)]
    cells += [f"{100 * outcome.missed:.1f}%", f"{outcome.false_switches_per_minute:.2f}"]
    default = SmoothingConfig(outcome.smooth_ms, outcome.margin, outcome.hold_ms) == SmoothingConfig()
    return [f"**{cell}**" if default else cell for cell in cells]


def draw(outcomes: Sequence[SmoothingOutcome], path: Path) -> None:
    """Draw false switches over the time to decision, a line through the time constants for each margin."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.subplots()
    for threshold, margin in dict.fromkeys((outcome.threshold, outcome.margin) for outcome in outcomes):
        if margin not in (0.0, SmoothingConfig.margin):
            continue
        line = []
        for outcome in outcomes:
            setting = (outcome.threshold, outcome.margin, outcome.hold_ms)
            if setting == (threshold, margin, 0) and outcome.time_p50_ms:
                line.append(outcome)
        line.sort(key=lambda outcome: outcome.smooth_ms)
        places = [(outcome.time_p50_ms, outcome.false_switches_per_minute) for outcome in line]
        axes.plot(*zip(*places, strict=True), "o-", label=f"shown from {threshold:.2f} on, margin {margin:g}")
        for outcome, at in zip(line, places, strict=True):
            axes.annotate(f"{outcome.smooth_ms:g}", at, textcoords="offset points", xytext=(4, 4), fontsize=7)
    axes.set_xlabel("time to decision, median, ms (synthetic scenes; labels: smooth_ms)")
    axes.set_ylabel("false switches a zone and minute")
    axes.set_yscale("log")
    axes.legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
