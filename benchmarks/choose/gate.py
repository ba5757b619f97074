"""The cases of the gate: every candidate of the baseline, its accuracy and its time, then and now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from benchmarks.results import Results, decode_classes
from core.stats import Interval, difference_interval, pair, paired_interval


@dataclass(frozen=True)
class Case:
    """One check: passed unless it says why it failed or was skipped."""

    name: str
    failure: str = ""
    skipped: str = ""
    said: str = ""


def compare_results(before: Results, now: Results) -> list[Case]:
    """Return two cases for each candidate of the baseline: accuracy and time."""
    rows = {row["name"]: row for row in now["candidates"]}
    cases = []
    for old in before["candidates"]:
        new = rows.get(old["name"])
        if new is None:
            cases.append(Case(old["name"], failure="the baseline has it, these results do not"))
            continue
        cases += [judge_accuracy(before, old, now, new), judge_time(before, old, now, new)]
    return cases


def judge_accuracy(before: Results, old: dict[str, Any], now: Results, new: dict[str, Any]) -> Case:
    """Fail when the whole 95% interval of the loss is above nothing: paired where both saw the same rows."""
    name = f"{old['name']} accuracy"
    if not old["accuracy"] or not new["accuracy"]:
        return Case(name, skipped="not measured on both sides")
    same_rows = (before["pack"]["fingerprint"], before["test"]) == (now["pack"]["fingerprint"], now["test"])
    loss, interval = _paired_loss(before, old, new) if same_rows else _plain_loss(old, new)
    how = "on the same rows" if same_rows else "on other rows than the baseline's"
    low, high = (100 * edge for edge in interval)
    said = f"loss {100 * loss:+.2f} points ({low:+.2f} to {high:+.2f}) {how}"
    return Case(name, failure=said if interval.low > 0 else "", said=said)


def judge_time(before: Results, old: dict[str, Any], now: Results, new: dict[str, Any]) -> Case:
    """Fail when the median frame time rose by more than the noise floors of both runs together."""
    name = f"{old['name']} time"
    machines = [results["machine"]["name"] for results in (before, now)]
    if machines[0] != machines[1] or before["machine"]["cpu"] != now["machine"]["cpu"]:
        return Case(name, skipped=f"measured on {machines[0]} and on {machines[1]}")
    ratio = new["latency"]["frame_ms"]["p50"] / old["latency"]["frame_ms"]["p50"]
    limit = (1 + before["noise"]["floor"]) * (1 + now["noise"]["floor"])
    said = f"{ratio:.3f} of the baseline's median, the noise of both runs reaches to {limit:.3f}"
    return Case(name, failure=said if ratio > limit else "", said=said)


def _paired_loss(before: Results, old: dict[str, Any], new: dict[str, Any]) -> tuple[float, Interval]:
    labels = decode_classes(before["test"]["labels"])
    pairs = pair(decode_classes(old["predicted"]) == labels, decode_classes(new["predicted"]) == labels)
    return pairs.loss, paired_interval(pairs)


def _plain_loss(old: dict[str, Any], new: dict[str, Any]) -> tuple[float, Interval]:
    a, b = old["accuracy"], new["accuracy"]
    return a["top1"] - b["top1"], difference_interval(a["hits"], a["n"], b["hits"], b["n"])
