"""The dated result of a study: its figures as JSON, its table in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path

from core.codec import to_json
from core.files import write_json, write_text


def write_dated(folder: Path, name: str, body: Mapping[str, object], title: str, lines: Sequence[str]) -> None:
    """Write NAME-DAY.json with `body` and NAME-DAY.md with the lines under the title; print the text."""
    # in the name too: a study that is made again on another day must not replace what was measured before
    day = datetime.now(timezone.utc).date().isoformat()
    text = "\n".join([f"# {title}, {day}", "", *lines, ""])
    write_json(folder / f"{name}-{day}.json", to_json({"made": day, **body}))
    write_text(folder / f"{name}-{day}.md", text)
    print(text)


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table."""
    return [f"| {' | '.join(cells)} |" for cells in (columns, ["---"] * len(columns), *rows)]
