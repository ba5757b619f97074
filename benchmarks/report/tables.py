"""Figures as text: the table of the terminal, and the filters of the templates."""

from __future__ import annotations

from typing import Any


def as_ms(value: float | None) -> str:
    """Write milliseconds with three significant digits, or that they were not measured."""
    return "not measured" if value is None else f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def as_percent(value: float | None) -> str:
    """Write a part of 1 as per cent."""
    return "not measured" if value is None else f"{100 * value:.1f}"


def as_points(value: float | None) -> str:
    """Write a difference of parts of 1 as points."""
    return "" if value is None else f"{100 * value:+.2f}"


def as_p(value: float) -> str:
    """Write a p value."""
    return f"{value:.3f}" if value >= 0.001 else "<0.001"


def as_mb(value: int) -> str:
    """Write bytes as megabytes."""
    return f"{value / 1e6:.2f}"


def as_range(interval: list[float]) -> str:
    """Write an interval of parts of 1 as per cent."""
    return f"{as_percent(interval[0])}-{as_percent(interval[1])}"


def say_noise(noise: dict[str, Any]) -> str:
    """Say what the A/A pair and the spread say of the run."""
    low, high = noise["aa_ratio"]
    pair = f"{noise['aa_pair']} against its own twin: {low:.3f} to {high:.3f} of its time"
    verdict = "these two are the same" if noise["aa_same"] else "these two were not found to be the same"
    floor = f"differences under {as_percent(noise['floor'])}% are not differences"
    spread = f"the rounds of a candidate spread by up to {as_percent(noise['spread'])}%"
    marked = "; the whole table is noisy" if noise["noisy"] else ""
    return f"A/A pair: {verdict} ({pair}); {spread}; {floor}{marked}."


def as_table(results: dict[str, Any]) -> str:
    """Return the result for a terminal."""
    choice = results["choice"]
    lines = ["synthetic data"] if results["synthetic"] else []
    lines.append(f"{'candidate':42} {'accuracy %':>18} {'p50 ms':>8} {'p99 ms':>8} {'cold ms':>8}  verdict")
    for row, verdict in zip(results["candidates"], choice["candidates"], strict=True):
        frame, accuracy = row["latency"]["frame_ms"], row["accuracy"]
        said = f"{as_percent(accuracy['top1'])} ({as_range(accuracy['interval'])})" if accuracy else "not measured"
        cold = "-" if row["cold_start_ms"] is None else as_ms(row["cold_start_ms"])
        times = f"{as_ms(frame['p50']):>8} {as_ms(frame['p99']):>8} {cold:>8}"
        lines.append(f"{row['name']:42} {said:>18} {times}  {verdict['role']}")
    for row in results["other_sizes"]:
        frame = row["latency"]["frame_ms"]
        times = f"{as_ms(frame['p50']):>8} {'-':>8} {'-':>8}"
        lines.append(f"{row['name']:42} {'not measured':>18} {times}  not selectable: {row['why_not']}")
    for row in results["unmeasured"]:
        lines.append(f"{row['arch']} {row['precision']} {row['backend']}: not measured ({row['reason']})")
    more = [part["sentence"] for name in ("seeds", "sustained") if (part := results[name])]
    return "\n".join([*lines, say_noise(results["noise"]), *more, choice["sentence"]])
