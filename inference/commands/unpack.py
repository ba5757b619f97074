"""Unpack an archive of `export package`, every file checked against its sha256."""

from __future__ import annotations

from pathlib import Path

from inference.archive import unpack
from inference.commands import Parser


def main(arguments: list[str]) -> int:
    """Unpack an archive into a new folder."""
    parser = Parser(prog="python -m inference unpack", description=__doc__)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--into", type=Path, required=True, metavar="DIR", help="a folder that does not exist yet")
    asked = parser.parse_args(arguments)
    print(f"{unpack(asked.archive, asked.into)} files in {asked.into}, each with the sha256 it was packed with")
    return 0
