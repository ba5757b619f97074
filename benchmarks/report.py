"""The report of a run: one folder, written whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2

from benchmarks.pictures import draw_pareto
from benchmarks.tables import as_mb, as_ms, as_percent, as_points, as_range, say_noise
from inference.files import replacing_folder, write_json, write_text

TEMPLATES = Path(__file__).parent / "templates"


def write_report(folder: Path, results: dict[str, Any]) -> None:
    """Write report.html, report.md, results.json and the pictures."""
    pages = environment()
    with replacing_folder(folder) as new:
        write_json(new / "results.json", results)
        draw_pareto(new / "pareto.png", results, results["choice"]["chosen"])
        for name in ("report.html", "report.md"):
            write_text(new / name, pages.get_template(f"{name}.j2").render(r=results, c=results["choice"]))


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
        "range": as_range,
        "noise": say_noise,
    }
    return pages
