"""The table of a pack for the terminal: rows by split and class, what was rejected, and its health."""

from __future__ import annotations

from core.data.pack import SPLITS, Pack

MAX_LISTED_CLASSES = 40
"""The largest number of classes in the table."""


def pack_summary(pack: Pack) -> str:
    """Return the table of rows by split and class, the rejected files, and the health."""
    width = max(map(len, (*pack.classes, "class")))
    lines = [
        f"{pack.path}: {len(pack.labels_n)} rows of {pack.geometry.size_px} px "
        f"from {pack.metadata['source']['importer']}"
        + (" (SYNTHETIC: for trying out, not for a car)" if pack.synthetic else ""),
        f"{'class':{width}}" + "".join(f"{split:>13}" for split in SPLITS),
    ]
    for name in pack.classes[:MAX_LISTED_CLASSES]:
        note = "  background" if name == pack.background else ""
        lines.append(f"{name:{width}}" + "".join(f"{pack.counts[split][name]:13}" for split in SPLITS) + note)
    if len(pack.classes) > MAX_LISTED_CLASSES:
        lines.append(f"and {len(pack.classes) - MAX_LISTED_CLASSES} classes more, see {pack.path / 'health.html'}")
    rejected = pack.metadata["rejected"]
    lines.append(f"rejected: {len(rejected)}" + (f", see {pack.path / 'pack.json'}" if rejected else ""))
    lines += [f"  {file['source']}: {file['reason']}" for file in rejected[:5]]
    firsts = pack.metadata.get("first_skipped", {})  # older packs have none
    of_pictures = pack.metadata["source"]["importer"] == "folder"
    singular, plural = ("picture", "pictures") if of_pictures else ("box", "boxes")
    for reason, n in pack.metadata["skipped"].items():
        first = f"; first {firsts[reason]}" if reason in firsts else ""
        lines.append(f"left out: {n} {singular if n == 1 else plural}, {reason}{first}")
    lines += health_lines(pack)
    lines += [f"warning: {warning}" for warning in pack.metadata["warnings"]]
    lines.append(f"fingerprint {pack.fingerprint}")
    return "\n".join(lines)


def health_lines(pack: Pack) -> list[str]:
    """Return the health of a pack in two lines: sizes and duplicates."""
    health = pack.metadata["health"]
    sizes = [of_class["rows"] for of_class in health["classes"].values()]
    return [
        f"largest to smallest class: {max(sizes) / max(min(sizes), 1):.1f}; {health['enlarged']} of "
        f"{pack.metadata['rows']} pictures are smaller than {pack.geometry.size_px} px",
        f"one picture twice: {health['exact_duplicates']} pairs of the same pixels, {health['near_duplicates']} near; "
        f"{health['across_splits']} across splits, {health['across_classes']} across classes; "
        f"see {pack.path / 'health.html'}",
    ]
