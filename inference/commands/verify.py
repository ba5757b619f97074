"""Check a bundle's hashes, schema, manifests and golden frames on every available backend."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from core.bundle.contract import open_bundle
from core.cli import Parser
from core.errors import CheckError
from inference.backends import names
from inference.proof.verify import verify, without_proof


def main(arguments: list[str]) -> int:
    """Print one line a check. Raises CheckError naming the first that failed, or a backend that proved nothing."""
    parser = Parser(prog="python -m inference verify", description=__doc__)
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="a bundle's folder, such as runs/NAME/production")
    parser.add_argument("--backends", nargs="+", choices=names(), help="the backends to check with (default: all)")
    parser.add_argument("--threads", type=int, help="threads of the backends that run on the CPU (default: all cores)")
    parser.add_argument(
        "--backend-option", action="append", default=[], metavar="NAME=VALUE", help="for the backends that have it"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args(arguments)
    lines = verify(open_bundle(args.bundle), args.backends, args.threads, args.backend_option)
    if args.json:
        print(json.dumps([asdict(line) for line in lines], indent=1))
    else:
        width = max(len(line.what) for line in lines)
        for line in lines:
            print(f"{line.what:{width}}  {line.result:8}  {line.detail}")
    if failed := [line for line in lines if line.result == "failed"]:
        raise CheckError(f"{args.bundle}: {len(failed)} checks failed, first {failed[0].what} ({failed[0].detail})")
    if unproved := without_proof(lines, args.backends):
        raise CheckError(f"{args.bundle}: no golden frame ran on {unproved}, so nothing is proved there: see the list")
    return 0
