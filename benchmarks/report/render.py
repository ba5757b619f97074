"""Write the report of a run, or of the same run on several devices, as a folder: whole or not at all."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

import jinja2
from markupsafe import Markup

from benchmarks.report import charts
from benchmarks.report.comparisons import compare_with_fp32
from benchmarks.report.examples import list_flipped, list_worst_rows
from benchmarks.report.frame_pictures import encode_frames
from benchmarks.report.plots import draw_pareto
from benchmarks.report.results_file import DeviceReport, write_reports
from benchmarks.report.tables import (
    as_mb,
    as_p,
    as_percent,
    as_points,
    as_range,
    describe_noise,
    false_alarms,
    three_digits,
)
from benchmarks.results.candidate import NotMeasured, measured
from core.bundle.contract import Bundle
from core.codec import to_json
from core.data.pack import Pack
from core.files import replacing_folder, write_text
from core.stats import mcnemar_p, paired_interval

TEMPLATES = Path(__file__).parent / "templates"


def render(
    folder: Path, devices: Sequence[DeviceReport], pack: Pack | None = None, frames_of: Pack | None = None
) -> None:
    """Write report.html, report.md, results.json with its schema, and the plots.

    devices: one at least. pack: the source of the images of test rows; None: none are shown.
    frames_of: the pack of the labeled frames, where it is not `pack`.
    """
    first = devices[0]
    chart_data = charts.collect_charts(devices)
    # where nothing was chosen, the mistakes of the reference are shown
    name = first.choice.chosen or first.choice.reference
    accuracy = measured(first.results.by_name[name].accuracy) if name else None
    frames = measured(first.results.by_name[name].frames) if name else None
    frames_of = frames_of or pack
    values = {
        "first": first,
        "devices": devices,
        "synthetic": any(device.results.synthetic for device in devices),
        "worst": list_worst_rows(accuracy, pack) if pack and accuracy else [],
        "worst_frames": encode_frames(frames.worst, frames_of) if frames and frames_of else [],
        "flipped": list_flipped(first.results.artifacts.precision_reports, pack) if pack else [],
        "against_fp32": compare_with_fp32(first.results),
        "learning": chart_data.learning,
        "line_charts": chart_data.lines,
        # NaN is no JSON: a browser would refuse the whole page
        "data": _script(json.dumps(to_json(chart_data), allow_nan=False)),
        "css": Markup(_read("report.css")),
        "js": Markup(_read("report.js")),
    }
    # everything is computed by now: an error above leaves the report of the last run in place
    with replacing_folder(folder) as new:
        write_reports(new, devices)
        for i, device in enumerate(devices):
            draw_pareto(new / f"pareto{i or ''}.png", device)
        for name in ("report.html", "report.md"):
            write_text(new / name, environment().get_template(f"{name}.j2").render(values))


def render_card(device: DeviceReport, bundle: Bundle, production: Path) -> str:
    """Return MODEL_CARD.md of the chosen candidate: what it is, its purpose, its results, and how it is started.

    production: the folder that the commands name.
    """
    row = device.results.by_name[str(device.choice.chosen)]
    file = bundle.files.get(str(row.opened["file"]), {})  # an engine is in its own manifest instead
    sha256 = file.get("sha256", "see its manifest")
    template = environment().get_template("model_card.md.j2")
    folder = shlex.quote(str(production))
    return template.render(
        results=device.results, choice=device.choice, row=row, bundle=bundle, sha256=sha256, folder=folder
    )


def environment() -> jinja2.Environment:
    """Return the environment of the templates with their filters. An undefined name in a template is an error."""
    pages = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=jinja2.select_autoescape(["html.j2"]),
        undefined=jinja2.StrictUndefined,  # by default, a misspelled name would print nothing
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    pages.filters |= {
        "three_digits": three_digits,
        "percent": as_percent,
        "points": as_points,
        "mb": as_mb,
        "p": as_p,
        "range": as_range,
        "noise": describe_noise,
        "false_alarms": false_alarms,
        "json": to_json,
        "paired_interval": paired_interval,
        "mcnemar_p": mcnemar_p,
    }
    pages.tests["measured"] = lambda value: not isinstance(value, NotMeasured)
    pages.globals["charts"] = charts
    return pages


def _read(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _script(text: str) -> Markup:
    """Escape JSON for a script element, where `</script>` in a class name would end the element."""
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))
