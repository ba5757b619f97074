"""The table of a pack for the terminal: rows by split and class, what was rejected, and its health."""

from __future__ import annotations

from core.data.pack import SPLITS, Pack

MOST_LISTED = 40
"""The largest number of classes in the table."""


def summary(made: Pack) -> str:
    """Return the table of rows by split and class, the rejected files, and the health."""
    width = max(map(len, (*made.classes, "class")))
    lines = [
        f"{made.path}: {len(made.labels_n)} rows of {made.geometry.size_px} px from {made.facts['source']['importer']}"
        + (" (SYNTHETIC: for trying out, not for a car)" if made.synthetic else ""),
        f"{'class':{width}}" + "".join(f"{split:>13}" for split in SPLITS),
    ]
    for name in made.classes[:MOST_LISTED]:
        note = "  background" if name == made.background else ""
        lines.append(f"{name:{width}}" + "".join(f"{made.counts[split][name]:13}" for split in SPLITS) + note)
    if len(made.classes) > MOST_LISTED:
        lines.append(f"and {len(made.classes) - MOST_LISTED} classes more, see {made.path / 'health.html'}")
    rejected = made.facts["rejected"]
    lines.append(f"rejected: {len(rejected)}" + (f", see {made.path / 'pack.json'}" if rejected else ""))
    lines += [f"  {one['source']}: {one['reason']}" for one in rejected[:5]]
    firsts = made.facts.get("first_skipped", {})  # packed before there was one
    of_pictures = made.facts["source"]["importer"] == "folder"
    for reason, n in made.facts["skipped"].items():
        what = ("picture" if of_pictures else "box") if n == 1 else ("pictures" if of_pictures else "boxes")
        lines.append(f"left out: {n} {what}, {reason}" + (f"; first {firsts[reason]}" if reason in firsts else ""))
    lines += health_lines(made)
    lines += [f"warning: {warning}" for warning in made.facts["warnings"]]
    lines.append(f"fingerprint {made.fingerprint}")
    return "\n".join(lines)


def health_lines(made: Pack) -> list[str]:
    """Return the health of a pack in two lines: sizes and duplicates."""
    health = made.facts["health"]
    sizes = [of_class["rows"] for of_class in health["classes"].values()]
    return [
        f"largest to smallest class: {max(sizes) / max(min(sizes), 1):.1f}; {health['enlarged']} of "
        f"{made.facts['rows']} pictures are smaller than {made.geometry.size_px} px",
        f"one picture twice: {health['exact_duplicates']} pairs of the same pixels, {health['near_duplicates']} near; "
        f"{health['across_splits']} across splits, {health['across_classes']} across classes; "
        f"see {made.path / 'health.html'}",
    ]
