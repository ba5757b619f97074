"""Values as text: the filters of the templates, and the table of the terminal."""

from __future__ import annotations

from benchmarks.choose.choice import ChoiceResult
from benchmarks.choose.seed_comparison import SeedComparison
from benchmarks.results.candidate import NotMeasured, measured
from benchmarks.results.frames import FramesAccuracy
from benchmarks.results.run import Noise, RunResults, Sustained
from core.stats import Interval


def three_digits(value: float | NotMeasured | None) -> str:
    """Write a number with three significant digits, or that it was not measured."""
    if value is None or isinstance(value, NotMeasured):
        return "not measured"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"  # .3g alone would write 1000 as 1e+03


def as_percent(value: float | NotMeasured | None) -> str:
    """Write a fraction as per cent."""
    return "not measured" if value is None or isinstance(value, NotMeasured) else f"{100 * value:.1f}"


def as_points(value: float) -> str:
    """Write a difference of fractions as percentage points."""
    return f"{100 * value:+.2f}"


def as_p(value: float) -> str:
    """Write a p value."""
    return f"{value:.3f}" if value >= 0.001 else "<0.001"


def as_mb(value: int) -> str:
    """Write bytes as megabytes."""
    return f"{value / 1e6:.2f}"


def as_range(interval: Interval) -> str:
    """Write an interval of fractions as per cent."""
    return f"{as_percent(interval.low)}-{as_percent(interval.high)}"


def false_alarms(frames: FramesAccuracy) -> str:
    """Write the false alarms in 100 frames with their interval, or why they were not measured."""
    if not frames.empty_regions:
        return "not measured: no region was empty"
    low, high = frames.false_alarms_interval
    return f"{frames.false_alarms_per_100:.1f} ({low:.1f}-{high:.1f})"


def describe_noise(noise: Noise) -> str:
    """Return a sentence on the noise of the run."""
    verdict = "no difference" if noise.same else "a difference, though it is one candidate"
    ratio = f"ratio of the two times {noise.ratio.low:.3f} to {noise.ratio.high:.3f}"
    control = f"{noise.control}, timed twice as a control, shows {verdict} ({ratio})"
    spread = f"the medians of a candidate's rounds vary by up to {as_percent(noise.spread)}%"
    floor = f"differences of times under {as_percent(noise.floor)}% are within the noise"
    warning = " The timing was disturbed: read all times with care." if noise.noisy else ""
    return f"Noise of the timing: {control}; {spread}; {floor}.{warning}"


def results_table(results: RunResults, choice: ChoiceResult) -> str:
    """Return the results and the choice as a table for the terminal."""
    lines = ["synthetic data"] if results.synthetic else []
    lines.append(f"{'candidate':42} {'accuracy %':>18} {'p50 ms':>8} {'p99 ms':>8} {'cold ms':>8}  verdict")
    # the choice keeps the order of the results
    for row, verdict in zip(results.candidates, choice.candidates, strict=True):
        frame = row.latency.frame_ms
        accuracy = measured(row.accuracy)
        cold = measured(row.cold_start_ms)
        correct = f"{as_percent(accuracy.top1)} ({as_range(accuracy.interval)})" if accuracy else "not measured"
        first = "-" if cold is None else three_digits(cold)
        times = f"{three_digits(frame.p50):>8} {three_digits(frame.p99):>8} {first:>8}"
        lines.append(f"{row.name:42} {correct:>18} {times}  {verdict.role}")
    # below the candidates: their times are no choice, they show what another size would cost
    for row in results.other_sizes:
        times = f"{three_digits(row.latency.frame_ms.p50):>8} {'-':>8} {'-':>8}"
        lines.append(f"{row.name:42} {'not measured':>18} {times}  not selectable: {row.why_not}")
    for skipped in results.unmeasured:
        name = skipped.backend if skipped.arch == "all" else f"{skipped.arch} {skipped.precision} {skipped.backend}"
        lines.append(f"{name}: not measured ({skipped.reason})")
    lines.append(f"Times are of a frame, in {results.protocol.regions}. {describe_noise(results.noise)}")
    lines += [
        part.sentence for part in (choice.seeds, results.sustained) if isinstance(part, SeedComparison | Sustained)
    ]
    return "\n".join([*lines, choice.sentence])
