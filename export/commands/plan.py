"""Say what an export will make, for what, and how long it took last time; takes the export's own flags."""

from __future__ import annotations

from export.commands import bundle


def main(arguments: list[str]) -> int:
    """Print the plan; nothing is made."""
    return bundle.main([*arguments, "--dry-run"])
