"""The report of a run, or of several devices' runs: one folder, written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from benchmarks.report import page
from benchmarks.report.plots import draw_pareto
from benchmarks.report.tables import as_mb, as_ms, as_p, as_percent, as_points, as_range, say_noise
from core.files import replacing_folder, write_json, write_text

TEMPLATES = Path(__file__).parent / "templates"


def write_report(folder: Path, devices: Sequence[dict[str, Any]], pictures: dict[int, str] | None = None) -> None:
    """Write report.html, report.md, results.json and the pictures.

    devices: results.json of each device, one at least. pictures: {row: data URI} of the rows that are shown.
    """
    first, body = devices[0], page.describe_page(devices)
    known = {
        "r": first,
        "devices": devices,
        "synthetic": any(results["synthetic"] for results in devices),
        "pictures": pictures or {},
        "page": page,
        "archs": body["archs"],
        "learning": body["learning"],
        "data": _script(json.dumps(body, allow_nan=False)),
        "css": Markup(_read("report.css")),
        "js": Markup(_read("report.js")),
    }
    pages = environment()
    with replacing_folder(folder) as new:
        write_json(new / "results.json", first if len(devices) == 1 else {"merged": list(devices)})
        for i, results in enumerate(devices):
            draw_pareto(new / f"pareto{i or ''}.png", results, results["choice"]["chosen"])
        for name in ("report.html", "report.md"):
            write_text(new / name, pages.get_template(f"{name}.j2").render(known))


def environment() -> jinja2.Environment:
    """Return the templates with the filters that write figures; a name that is not there is an error."""
    pages = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=jinja2.select_autoescape(["html.j2"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    pages.filters |= {
        "ms": as_ms,
        "percent": as_percent,
        "points": as_points,
        "mb": as_mb,
        "p": as_p,
        "range": as_range,
        "noise": say_noise,
    }
    return pages


def _read(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _script(text: str) -> Markup:
    """Return JSON that may stand inside a script element: no tag can be closed or opened in it."""
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))
