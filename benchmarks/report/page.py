"""What report.html draws and says, from results of one device or several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.results import CURVE

Results = dict[str, Any]
MOST_IN_MATRIX = 30
"""With more classes a matrix of all pairs is not read: the commonest mistakes are listed."""
MOST_LISTED = 24
"""Mistakes of a candidate, and classes of a table in Markdown."""
METERS = {"clock_mhz": "Clock, MHz", "temperature_c": "Temperature, °C", "power_w": "Power, W"}
"""What the meters are, by their names in results.json."""


def describe_page(devices: Sequence[Results]) -> dict[str, Any]:
    """Return the object that report.js reads. devices: results.json of each device, one at least."""
    rows = [row for results in devices for row in _rows(results, several=len(devices) > 1)]
    budgets = {results["policy"]["p99_ms"] for results in devices}
    return {
        "rows": rows,
        "archs": _in_order(row["arch"] for row in rows),
        "precisions": _in_order(row["precision"] for row in rows),
        "backends": _in_order(row["backend"] for row in rows),
        "devices": _in_order(row["device"] for row in rows),
        "budget": budgets.pop() if len(budgets) == 1 else None,
        "curve": CURVE,
        "learning": draw_learning(devices[0]["learning"]),
        "lines": {key: body for i, results in enumerate(devices) for key, body in draw_sustained(results, i).items()},
    }


def draw_sustained(results: Results, number: int) -> dict[str, dict[str, Any]]:
    """Return {"NUMBER/what": {"y", "log", "lines"}} over the minutes of sustained load; {} where there was none."""
    if not results["sustained"]:
        return {}
    windows, rows = results["sustained"]["windows"], {row["name"]: row for row in results["candidates"]}
    names = results["sustained"]["order"]["first"]
    times = [
        {
            "name": name,
            **{key: rows[name][key] for key in ("arch", "precision")},
            "points": [[w["minute"], w["p50_ms"][name]] for w in windows],
        }
        for name in names
    ]
    figures: dict[str, dict[str, Any]] = {f"{number}/p50_ms": {"y": "ms per frame (log)", "log": True, "lines": times}}
    for meter in results["sustained"]["meters"]:
        points = [[w["minute"], w["meters"][meter]] for w in windows if meter in w["meters"]]
        line = {"name": METERS[meter], "arch": None, "precision": "fp32", "points": points}
        figures[f"{number}/{meter}"] = {"y": METERS[meter], "log": False, "lines": [line]}
    return figures


def draw_learning(learning: dict[str, dict[str, list[float | None]]]) -> dict[str, list[dict[str, Any]]]:
    """Return {figure: lines} of accuracy, loss and learning rate over epochs; val is solid, train is dashed."""
    figures: dict[str, list[dict[str, Any]]] = {}
    for arch, columns in learning.items():
        epochs = columns.get("epoch") or list(range(1, 1 + max(map(len, columns.values()))))
        for name, values in columns.items():
            figure = figure_of(name)
            points = [p for p in zip(epochs, values, strict=True) if None not in p]
            if figure is None or not points:
                continue
            dash = "4 3" if "train" in name else ""
            line = {"name": f"{arch} {name.replace('_', ' ')}", "arch": arch, "dash": dash, "points": points}
            figures.setdefault(figure, []).append(line)
    return figures


def figure_of(column: str) -> str | None:
    """Return which learning figure a column of history.csv belongs to, or None."""
    if column in {"rate", "lr", "learning_rate"} or column.endswith(("_rate", "_lr")):
        return "learning rate"
    return next((what for what in ("accuracy", "loss") if column.endswith(what)), None)


def pick_shown(results: Results) -> list[str]:
    """Return the candidates that get pictures of their own: the chosen one and the most accurate of each network."""
    best: dict[str, Results] = {}
    for row in results["candidates"]:
        if row["accuracy"] and row["accuracy"]["top1"] > best.get(row["arch"], row)["accuracy"]["top1"]:
            best[row["arch"]] = row
        elif row["accuracy"]:
            best.setdefault(row["arch"], row)
    chosen = results["choice"]["chosen"]
    return _in_order([*([chosen] if chosen else []), *(row["name"] for row in best.values())])


def list_confused(confusion: Sequence[Sequence[int]], classes: Sequence[str]) -> list[dict[str, Any]]:
    """Return the commonest mistakes, {"true", "said", "rows", "part" of the class's rows}, the commonest first."""
    counts = np.array(confusion)
    of_class = counts.sum(1)
    np.fill_diagonal(counts, 0)
    commonest = np.argsort(-counts, axis=None, kind="stable")[:MOST_LISTED]
    pairs = [divmod(int(at), len(classes)) for at in commonest if counts.flat[at]]
    return [
        {"true": classes[i], "said": classes[j], "rows": int(counts[i, j]), "part": counts[i, j] / of_class[i]}
        for i, j in pairs
    ]


def worst_classes(accuracy: dict[str, Any]) -> list[str]:
    """Return the classes that a table in Markdown names: all of few, else those with the lowest recall, worst first."""
    recalls = accuracy["recalls"]
    if len(recalls) <= MOST_IN_MATRIX:
        return list(recalls)
    seen = [name for name in recalls if recalls[name]["n"]]
    return sorted(seen, key=lambda name: recalls[name]["recall"])[:MOST_LISTED]


def _rows(results: Results, several: bool) -> list[dict[str, Any]]:
    shown, device = pick_shown(results), results["machine"]["name"]
    verdicts = {v["name"]: v["role"] for v in results["choice"]["candidates"]}
    return [_row(row, device, several, row["name"] in shown, verdicts[row["name"]]) for row in results["candidates"]]


def _row(row: Results, device: str, several: bool, shown: bool, role: str) -> dict[str, Any]:
    frame, accuracy = row["latency"]["frame_ms"], row["accuracy"]
    body = {
        "name": f"{row['name']} on {device}" if several else row["name"],
        "device": device,
        **{key: row[key] for key in ("arch", "precision", "backend")},
        **{key: frame[key] for key in ("p50", "p90", "p99", "n")},
        "tail": frame["p99"] or frame["max"],
        "engine": row["latency"]["engine_ms"]["p50"],
        "age": row["age_ms"]["p50"] if row["age_ms"] else None,
        "mb": row["bytes"] / 1e6,
        "role": role,
        "shown": shown,
        "curve": row["latency"]["curve_ms"],
        "top1": None,
    }
    if accuracy:
        low, high = accuracy["interval"]
        body |= {"top1": 100 * accuracy["top1"], "low": 100 * low, "high": 100 * high}
        body |= {"bins": accuracy["bins"], "risk": accuracy["risk_coverage"]} if shown else {}
    return body


def _in_order(names: Any) -> list[str]:
    """Return the different names, in the order they come."""
    return list(dict.fromkeys(names))
