"""Check on a GPU what needs one: tests, training speed, a short training, every backend, a detector.

One dated JSON file holds the machine and the figures of each part. It is written again after each part, so that the
figures stay when the next part is cut short. Exit code 0: every part passed; 1: a part failed, and the file holds the
reason; 2: no GPU, or a wrong command.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from time import perf_counter
from typing import Any

from core.cli import Parser
from core.errors import CheckError, InputError, check_positive
from core.files import write_json
from tests.gpu.parts import DRY, PARTS, ROOT, WHOLE, Extent, Prototype, Work

SCHEMA = 2
RESULTS = ROOT / "docs" / "results"


def main(arguments: list[str]) -> int:
    """Run the named parts; print a line for each and the name of the result file."""
    args = read_arguments(arguments)
    machine = describe_machine(args.device)
    if machine["missing"]:
        print(f"not installed: {', '.join(machine['missing'])}; a part that needs one says so", file=sys.stderr)
    if args.commit:
        machine |= {"commit": args.commit, "dirty": None}
    extent, now = choose_extent(args), datetime.now().astimezone()
    file = args.out / f"{now:%Y-%m-%d-%H%M%S}-gpu-check.json"
    result: dict[str, Any] = {
        "schema": SCHEMA,
        "date": now.isoformat(timespec="seconds"),
        "dry_run": args.device == "cpu",
        "machine": machine,
        "extent": asdict(extent),
        "parts": {},
    }
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as folder:
        for name in args.only:
            part = run_part(name, Work(args.device, Path(folder), extent, args.prototype))
            result["parts"][name] = part
            write_json(file, result)
            print(f"{name}: {'passed' if part['passed'] else part['reason']} ({part['seconds']} s)", flush=True)
    print(f"result: {file}")
    return int(any(not part["passed"] for part in result["parts"].values()))


def read_arguments(arguments: list[str]) -> argparse.Namespace:
    """Read the command line; paths become absolute, since every part runs in the repository's root."""
    parser = Parser("python -m tests.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", type=_parts, default=list(PARTS), metavar="PARTS", help=f"parts to run, of {','.join(PARTS)} (all)"
    )
    parser.add_argument("--data", metavar="DIR", help="a data set to train on (default: synthetic)")
    parser.add_argument("--epochs", type=int, help=f"epochs of each training ({WHOLE.epochs})")
    parser.add_argument(
        "--prototype", type=Path, metavar="FILE", help="a prototype of the training step to compare with"
    )
    parser.add_argument("--project", type=Path, metavar="DIR", help="the project whose modules the prototype imports")
    parser.add_argument(
        "--device", default="cuda", help="cuda, cuda:1, or cpu for a small dry run that tests the check itself"
    )
    parser.add_argument(
        "--commit", metavar="ID", help="the commit of this copy of the repository, where it has no .git"
    )
    parser.add_argument(
        "--out", type=Path, default=ROOT / "docs" / "results", metavar="DIR", help="the folder of the result file"
    )
    args = parser.parse_args(arguments)
    if (args.prototype is None) != (args.project is None):
        raise InputError("--prototype and --project belong together: give both or neither")
    for path in filter(None, (args.prototype, args.project)):
        if not path.exists():
            raise InputError(f"{path} does not exist: name the prototype by --prototype, its project by --project")
    if args.prototype:
        args.prototype = Prototype(args.prototype.resolve(), args.project.resolve())
    if args.epochs is not None:
        check_positive(epochs=args.epochs)
    if args.data and not args.data.startswith("synthetic"):
        if not Path(args.data).exists():
            raise InputError(f"--data {args.data} does not exist: name the folder of a data set")
        args.data = str(Path(args.data).resolve())
    args.out = args.out.resolve()
    return args


def describe_machine(device: str) -> dict[str, Any]:
    """Return what `tests.gpu.machine` finds in a process of its own. Raises InputError with its sentence."""
    command = [sys.executable, "-m", "tests.gpu.machine", device]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(done.stderr.strip().removeprefix("error: "))
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def choose_extent(args: argparse.Namespace) -> Extent:
    """Return the extent of the check: small on the CPU, where only the check itself is tested."""
    extent = DRY if args.device == "cpu" else WHOLE
    return replace(extent, data=args.data or extent.data, epochs=args.epochs or extent.epochs)


def run_part(name: str, work: Work) -> dict[str, Any]:
    """Run one part to its end or to its failure; return its figures, its seconds and the reason of a failure."""
    print(f"--- {name}", file=sys.stderr, flush=True)
    figures, reason, started = dict[str, Any](), "", perf_counter()
    try:
        for key, value in PARTS[name](work):
            figures[key] = value
    except CheckError as error:
        reason = str(error)
    except Exception as error:  # a fault of one part must not stop the others; its reason goes into the file
        reason = f"{type(error).__name__}: {error}"
    seconds = round(perf_counter() - started, 1)
    return {"passed": not reason, "reason": reason, "seconds": seconds, "figures": figures}


def _parts(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in PARTS]:
        raise argparse.ArgumentTypeError(f"there is no part {unknown[0]!r}: choose from {', '.join(PARTS)}")
    return names
