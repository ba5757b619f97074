"""MODEL_CARD.md: what the production bundle is, what it is for, and what was seen of it."""

from __future__ import annotations

from benchmarks.measure.candidates import Candidate
from benchmarks.report import page
from benchmarks.report.render import environment
from benchmarks.results import Results


def write_card(results: Results, candidate: Candidate) -> str:
    """Return the card of a measured candidate."""
    row = next(row for row in results["candidates"] if row["name"] == candidate.name)
    sha256 = candidate.bundle.files.get(str(row["opened"]["file"]), {}).get("sha256", "see its manifest")
    template = environment().get_template("model_card.md.j2")
    return template.render(r=results, row=row, b=candidate.bundle, sha256=sha256, page=page)
