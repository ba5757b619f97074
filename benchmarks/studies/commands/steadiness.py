"""Measure what decision.json costs and gives on synthetic scenes with known truth: the curve behind its defaults."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks.measure.machine import describe_machine
from benchmarks.studies.dated import as_table, write_dated
from benchmarks.studies.steadiness import Outcome, ask, judge
from core.bundle.contract import open_bundle
from core.cli import Parser
from core.synthetic import ZONES
from inference.backends import open_backend
from inference.frame.classifier import RegionClassifier
from inference.frame.smoothing import SmoothingConfig
from inference.runner.selection import pick_backend_and_precision

RAW = SmoothingConfig(smooth_ms=0, margin=0, hold_ms=0)
SMOOTH_MS = (0, 50, 100, 150, 200, 300, 500, 800)
MARGINS = (0.0, 0.1, 0.2, 0.3, 0.4)
HOLDS_MS = (0, 200, 400, 800)
COLUMNS = (
    "said from",
    "smooth_ms",
    "margin",
    "hold_ms",
    "said",
    "right of said",
    "right",
    "time p50 ms",
    "p90",
    "missed",
    "false/min",
)


def settings() -> list[SmoothingConfig]:
    """Return what is tried: the time constants alone and with the margin; then margins and holds, alone."""
    plain = [replace(RAW, smooth_ms=ms) for ms in SMOOTH_MS]
    whole = [replace(SmoothingConfig(), smooth_ms=ms) for ms in SMOOTH_MS]
    margins = [replace(SmoothingConfig(), margin=margin) for margin in MARGINS]
    holds = [replace(SmoothingConfig(), margin=0, hold_ms=ms) for ms in HOLDS_MS]
    return list(dict.fromkeys([*plain, *whole, *margins, *holds]))


def main(arguments: list[str]) -> None:
    """Run `python -m benchmarks.studies steadiness BUNDLE`; print the table, write it and its plot."""
    parser = Parser(prog="python -m benchmarks.studies steadiness", description=__doc__)
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument("--seconds", type=float, default=120.0, help="of each scenario")
    parser.add_argument("--backend")
    parser.add_argument("--precision")
    parser.add_argument("--out", type=Path, default=Path("docs/results"), metavar="DIR")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="receives the curve, .svg or .png")
    options = parser.parse_args(arguments)
    bundle = open_bundle(options.bundle)
    name, precision = pick_backend_and_precision(bundle, options.backend, options.precision)
    with open_backend(name, bundle, precision, batch=len(ZONES), threads=1) as backend:
        scenes = list(ask(RegionClassifier(bundle, backend), options.seconds))
    thresholds = sorted({bundle.abstain_threshold, 0.0}, reverse=True)  # as chosen; and if it never abstained
    bundles = [replace(bundle, abstain_threshold=threshold) for threshold in thresholds]
    outcomes = [judge(one, scenes, smoothing) for one in bundles for smoothing in settings()]
    rows = [{**vars(one.smoothing), **{k: v for k, v in asdict(one).items() if k != "smoothing"}} for one in outcomes]
    facts = {"arch": bundle.arch, "precision": precision, "abstain_threshold": bundle.abstain_threshold}
    facts |= {"classes": list(bundle.classes), "seconds": options.seconds, "scenarios": [s.scenario for s in scenes]}
    body = {"synthetic": True, **facts, "machine": describe_machine(), "rows": rows}
    write_dated(options.out, "steadiness", body, "Steadiness", describe(outcomes, facts))
    if options.plot:
        plot(outcomes, options.plot)


def describe(outcomes: list[Outcome], facts: dict[str, Any]) -> list[str]:
    """Return the lines of the result: what was tried, and the table."""
    return [
        f"{facts['arch']} {facts['precision']}, which abstains under {facts['abstain_threshold']:.2f}, and as if it"
        f" never did; {facts['seconds']:g} s each of {', '.join(facts['scenarios'])} (synthetic), 30 frames/s, three"
        " zones. Right: the right class was said, of all frames. Time: from a change of the truth to the new class."
        " False: changes to a wrong class, a zone and minute.",
        "",
        *as_table(COLUMNS, map(as_row, outcomes)),
    ]


def as_row(one: Outcome) -> list[str]:
    """Return one line of the table; the defaults are set in bold."""
    smoothing = one.smoothing
    cells = [f"{one.threshold:.2f}", f"{smoothing.smooth_ms:g}", f"{smoothing.margin:g}", f"{smoothing.hold_ms:g}"]
    cells += [f"{100 * value:.1f}%" for value in (one.said, one.right_of_said, one.right)]
    cells += ["-" if ms is None else f"{ms:.0f}" for ms in (one.time_p50_ms, one.time_p90_ms)]
    cells.append(f"{100 * one.missed:.1f}%")
    cells.append(f"{one.false_switches_per_minute:.2f}")
    return [f"**{cell}**" if smoothing == SmoothingConfig() else cell for cell in cells]


def plot(outcomes: list[Outcome], path: Path) -> None:
    """Draw false switches against the time to decision, over the time constants, without the margin and with it."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.subplots()
    for threshold in dict.fromkeys(one.threshold for one in outcomes):
        for margin in (0.0, SmoothingConfig.margin):
            wanted = (threshold, margin, 0)
            line = [o for o in outcomes if (o.threshold, o.smoothing.margin, o.smoothing.hold_ms) == wanted]
            line.sort(key=lambda one: one.smoothing.smooth_ms)
            label = f"said from {threshold:.2f} on, margin {margin:g}"
            points = [
                (o.smoothing.smooth_ms, (o.time_p50_ms, o.false_switches_per_minute)) for o in line if o.time_p50_ms
            ]
            axes.plot([at[0] for _, at in points], [at[1] for _, at in points], "o-", label=label)
            for smooth_ms, at in points:
                axes.annotate(f"{smooth_ms:g}", at, textcoords="offset points", xytext=(4, 4), fontsize=7)
    axes.set_xlabel("time to decision, median, ms (synthetic scenes; labels: smooth_ms)")
    axes.set_ylabel("false switches a zone and minute")
    axes.set_yscale("log")
    axes.legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
