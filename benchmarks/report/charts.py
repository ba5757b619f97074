"""The data of the charts for report.js, and the selections of candidates, classes and mistakes for the templates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.report.results_file import DeviceReport
from benchmarks.results.candidate import Accuracy, CandidateResult, measured
from benchmarks.results.run import RunResults, Sustained
from core.stats import CalibrationBin, Floats, Ints

MOST_IN_MATRIX = 30
"""With more classes, the commonest mistakes are listed in place of the confusion matrix."""
MOST_LISTED = 24
"""The most mistakes of a candidate, and the most classes in a Markdown table."""
METERS = {"clock_mhz": "Clock, MHz", "temperature_c": "Temperature, °C", "power_w": "Power, W"}
"""{name of a meter in results.json: its label}."""
MINUTES, ANSWERED = "minutes of load", "answered, % of the objects with a region"
LEARNING = ("accuracy", "loss", "learning rate")
"""The charts of a training: the ends of the names of their columns in history.csv."""
DASHES = "solid fp32, dashed fp16, dash-dotted int8"
"""The dashes of a line by its precision, in words; report.js draws them."""
PERCENTILES = (*range(0, 100, 2), 99.0, 99.5, 99.9, 100.0)
"""The percentiles of a latency curve."""


@dataclass(frozen=True)
class ChartCandidate:
    """A candidate in the charts."""

    name: str
    device: str
    arch: str
    precision: str
    backend: str
    role: str
    has_charts: bool
    """Whether it has a calibration chart and a risk curve."""
    p50: float
    p90: float | None
    p99: float | None
    n: int
    tail: float
    """The p99, or the maximum where the samples are too few to claim a p99."""
    engine: float
    age: float | None
    mb: float
    percentiles_ms: Floats
    """Milliseconds at each of PERCENTILES."""
    top1: float | None
    """Accuracy in per cent; low and high are its interval."""
    low: float | None
    high: float | None
    bins: tuple[CalibrationBin, ...]
    risk: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class ChartLine:
    """A line of a chart, through points (x, y)."""

    name: str
    arch: str | None
    points: tuple[tuple[float, float], ...]
    precision: str = "fp32"
    dash: str = ""
    """An SVG dash pattern; empty: the one of the precision, DASH in report.js."""


@dataclass(frozen=True)
class Chart:
    """Lines of candidates. x, y: the labels of its axes."""

    x: str
    y: str
    log: bool
    lines: tuple[ChartLine, ...]


@dataclass(frozen=True)
class ChartData:
    """All charts of a report."""

    candidates: tuple[ChartCandidate, ...]
    archs: tuple[str, ...]
    precisions: tuple[str, ...]
    backends: tuple[str, ...]
    devices: tuple[str, ...]
    budget: float | None
    """The p99 budget, where all devices have the same."""
    percentiles: tuple[float, ...]
    learning: dict[str, list[ChartLine]]
    lines: dict[str, Chart]
    """{NUMBER OF THE DEVICE/NAME: a chart of lines}."""


def collect_charts(devices: Sequence[DeviceReport]) -> ChartData:
    """Return the data of all charts. devices: one at least."""
    candidates = []
    for device in devices:
        candidates += _candidates(device, several=len(devices) > 1)
    budgets = {device.choice.policy.p99_ms for device in devices}  # one line in the chart, or none
    charts = {
        f"{number}/{name}": chart
        for number, device in enumerate(devices)
        for name, chart in {**collect_sustained(device), **collect_risk_on_frames(device)}.items()
    }
    return ChartData(
        candidates=tuple(candidates),
        archs=_in_order(candidate.arch for candidate in candidates),
        precisions=_in_order(candidate.precision for candidate in candidates),
        backends=_in_order(candidate.backend for candidate in candidates),
        devices=_in_order(candidate.device for candidate in candidates),
        budget=budgets.pop() if len(budgets) == 1 else None,
        percentiles=PERCENTILES,
        learning=collect_learning(devices[0].results.artifacts.learning),
        lines=charts,
    )


def collect_sustained(device: DeviceReport) -> dict[str, Chart]:
    """Return charts of the median times and of each meter over the minutes of sustained load; {} without load."""
    sustained = device.results.sustained
    rows = device.results.by_name
    if not isinstance(sustained, Sustained):
        return {}
    windows = sustained.windows
    times = []
    for name in windows[0].p50_ms:
        points = tuple((window.minute, window.p50_ms[name]) for window in windows)
        times.append(ChartLine(name, rows[name].arch, points, rows[name].precision))
    charts = {"p50_ms": Chart(MINUTES, "ms per frame (log)", True, tuple(times))}
    for meter in sustained.meters:
        # a meter that failed for a moment leaves a gap, not a 0
        points = tuple((w.minute, w.meters[meter]) for w in windows if meter in w.meters)
        charts[meter] = Chart(MINUTES, METERS[meter], False, (ChartLine(METERS[meter], None, points),))
    return charts


def collect_risk_on_frames(device: DeviceReport) -> dict[str, Chart]:
    """Return the errors over the coverage on labeled frames; a bar is the interval at the shipped threshold."""
    lines = []
    for row in device.results.candidates:
        frames = measured(row.frames)
        # all backends of a network carry the same figures: only the one that was measured is drawn
        if frames is None or row.backend != frames.measured_on:
            continue
        name = f"{row.arch} {row.precision}"
        answered = [point for point in frames.risk_curve if point.coverage > 0]
        points = tuple((100 * point.coverage, 100 * point.risk) for point in answered)
        lines.append(ChartLine(name, row.arch, points, row.precision))
        for p in answered:
            if p.shipped:
                bar = tuple((100 * p.coverage, 100 * edge) for edge in p.risk_interval)
                lines.append(ChartLine(f"{name}: shipped threshold {p.threshold:.3f}", row.arch, bar))
    drawn = tuple(line for line in lines if line.points)
    return {"frames": Chart(ANSWERED, "wrong, % of these", False, drawn)} if drawn else {}


def collect_learning(learning: Mapping[str, Mapping[str, Sequence[float | None]]]) -> dict[str, list[ChartLine]]:
    """Return {chart: lines} of accuracy, loss and learning rate over the epochs: val solid, train dashed."""
    charts: dict[str, list[ChartLine]] = {}
    for arch, columns in learning.items():
        # a history without that column has a line for each epoch
        epochs = columns.get("epoch") or range(1, 1 + max(map(len, columns.values())))
        for name, values in columns.items():
            line_name = f"{arch} {name.replace('_', ' ')}"
            dash = "4 3" if "train" in name else ""
            points = [(x, y) for x, y in zip(epochs, values, strict=True) if x is not None and y is not None]
            chart = next((chart for chart in LEARNING if line_name.endswith(chart)), None)
            if chart is not None and points:
                line = ChartLine(line_name, arch, tuple(points), dash=dash)
                charts.setdefault(chart, []).append(line)
    return charts


def pick_charted(device: DeviceReport) -> tuple[str, ...]:
    """Return the candidates with charts of their own: the chosen one and the most accurate of each network."""
    best: dict[str, tuple[float, str]] = {}
    for row in device.results.candidates:
        accuracy = measured(row.accuracy)
        if accuracy and accuracy.top1 > best.get(row.arch, (-1.0, ""))[0]:
            best[row.arch] = accuracy.top1, row.name
    # one of each network: the charts of all candidates would lie over each other
    names = [name for _, name in best.values()]
    chosen = device.choice.chosen
    return _in_order([chosen, *names] if chosen else names)


@dataclass(frozen=True)
class Mistake:
    """A class that is mistaken for another one. part: the share of the rows of the true class."""

    true: str
    answer: str
    rows: int
    part: float


def confusion_matrix(results: RunResults, accuracy: Accuracy) -> Ints:
    """Return the number of test rows by true class and answer, int64 (classes, classes)."""
    counts = np.zeros((len(results.pack.classes),) * 2, np.int64)
    np.add.at(counts, (results.labels_n, accuracy.predicted_n), 1)  # counts[...] += 1 would count a repeated pair once
    return counts


def list_confused(confusion: Ints, classes: Sequence[str]) -> list[Mistake]:
    """Return the MOST_LISTED commonest mistakes, the commonest first."""
    counts = confusion.copy()
    np.fill_diagonal(counts, 0)
    mistakes = []
    # stable: of equally common mistakes the same ones are listed each time
    for at in np.argsort(-counts, axis=None, kind="stable")[:MOST_LISTED]:
        i, j = divmod(int(at), len(classes))
        rows = int(counts[i, j])
        if rows:
            mistakes.append(Mistake(classes[i], classes[j], rows, rows / confusion[i].sum()))
    return mistakes


def worst_classes(accuracy: Accuracy) -> list[str]:
    """Return the classes of a Markdown table: all, or, of more than MOST_IN_MATRIX, those with the lowest recall."""
    recalls = {name: value for name, r in accuracy.recalls.items() if (value := measured(r.recall)) is not None}
    if len(accuracy.recalls) <= MOST_IN_MATRIX:
        return list(accuracy.recalls)
    return sorted(recalls, key=lambda name: recalls[name])[:MOST_LISTED]


def _candidates(device: DeviceReport, several: bool) -> list[ChartCandidate]:
    charted = pick_charted(device)
    name = device.results.machine.name
    candidates = []
    for row, verdict in zip(device.results.candidates, device.choice.candidates, strict=True):
        candidates.append(_candidate(row, name, several, row.name in charted, verdict.role))
    return candidates


def _candidate(row: CandidateResult, device: str, several: bool, has_charts: bool, role: str) -> ChartCandidate:
    frame = row.latency.frame_ms
    accuracy = measured(row.accuracy)
    age = measured(row.age_ms)
    return ChartCandidate(
        name=f"{row.name} on {device}" if several else row.name,  # unique over all devices
        device=device,
        arch=row.arch,
        precision=row.precision,
        backend=row.backend,
        role=role,
        has_charts=has_charts,
        p50=frame.p50,
        p90=frame.p90,
        p99=frame.p99,
        n=frame.n,
        tail=frame.p99 or frame.max,
        engine=row.latency.engine_ms.p50,
        age=age.p50 if age else None,
        mb=row.bytes / 1e6,
        # a few percentiles draw the same curve as thousands of times, and keep the page small
        percentiles_ms=np.percentile(row.latency.rounds_ms, PERCENTILES).round(5),
        top1=100 * accuracy.top1 if accuracy else None,
        low=100 * accuracy.interval.low if accuracy else None,
        high=100 * accuracy.interval.high if accuracy else None,
        bins=accuracy.bins if accuracy and has_charts else (),
        risk=accuracy.risk_coverage if accuracy and has_charts else (),
    )


def _in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Return the distinct names, in order of appearance."""
    return tuple(dict.fromkeys(names))
