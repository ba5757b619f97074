"""Prove on a machine with a GPU what needs one: tests, training speed, a short training, every backend.

One dated JSON file holds the machine and the figures of each part; it is written again after each part, so that what
was measured stays when the next part is cut short. Exit code 0: every part passed; 1: a part failed, its reason stands
in the file; 2: no GPU, or a wrong command.
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
    """Run the parts that were asked for; print a line for each and the name of the result file."""
    asked = read_arguments(arguments)
    machine = describe_machine(asked.device)
    if machine["missing"]:
        print(f"not installed: {', '.join(machine['missing'])}; a part that needs one says so", file=sys.stderr)
    if asked.commit:
        machine |= {"commit": asked.commit, "dirty": None}
    extent, now = extent_of(asked), datetime.now().astimezone()
    file = asked.out / f"{now:%Y-%m-%d-%H%M%S}-gpu-check.json"
    result: dict[str, Any] = {
        "schema": SCHEMA,
        "date": now.isoformat(timespec="seconds"),
        "dry_run": asked.device == "cpu",
        "machine": machine,
        "extent": asdict(extent),
        "parts": {},
    }
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as folder:
        for name in asked.only:
            part = run_part(name, Work(asked.device, Path(folder), extent, asked.prototype))
            result["parts"][name] = part
            write_json(file, result)
            print(f"{name}: {'passed' if part['passed'] else part['reason']} ({part['seconds']} s)", flush=True)
    print(f"result: {file}")
    return int(any(not part["passed"] for part in result["parts"].values()))


def read_arguments(arguments: list[str]) -> argparse.Namespace:
    """Read the command line; paths are whole, since every part runs in the repository's root."""
    it = Parser("python -m tests.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    it.add_argument("--only", type=_parts, default=list(PARTS), metavar="PARTS", help=f"of {','.join(PARTS)} (all)")
    it.add_argument("--data", metavar="DIR", help="a data set to train on (default: synthetic)")
    it.add_argument("--epochs", type=int, help=f"of each training ({WHOLE.epochs})")
    it.add_argument("--prototype", type=Path, metavar="FILE", help="a prototype of the training step to compare with")
    it.add_argument("--project", type=Path, metavar="DIR", help="of --prototype: the project whose modules it imports")
    it.add_argument("--device", default="cuda", help="cuda, cuda:1, or cpu for a dry run: small, to prove the check")
    it.add_argument("--commit", metavar="ID", help="of this copy of the repository, where it has no .git")
    it.add_argument("--out", type=Path, default=ROOT / "docs" / "results", metavar="DIR", help="of the result file")
    asked = it.parse_args(arguments)
    if (asked.prototype is None) != (asked.project is None):
        raise InputError("--prototype and --project belong together: give both or neither")
    for path in filter(None, (asked.prototype, asked.project)):
        if not path.exists():
            raise InputError(f"{path} does not exist: name the prototype by --prototype, its project by --project")
    if asked.prototype:
        asked.prototype = Prototype(asked.prototype.resolve(), asked.project.resolve())
    if asked.epochs is not None:
        check_positive(epochs=asked.epochs)
    if asked.data and not asked.data.startswith("synthetic"):
        if not Path(asked.data).exists():
            raise InputError(f"--data {asked.data} does not exist: name the folder of a data set")
        asked.data = str(Path(asked.data).resolve())
    asked.out = asked.out.resolve()
    return asked


def describe_machine(device: str) -> dict[str, Any]:
    """Return what `tests.gpu.machine` finds in a process of its own. Raises InputError with its sentence."""
    command = [sys.executable, "-m", "tests.gpu.machine", device]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(done.stderr.strip().removeprefix("error: "))
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def extent_of(asked: argparse.Namespace) -> Extent:
    """Return how much is done: little on the CPU, where only the check itself is proved."""
    extent = DRY if asked.device == "cpu" else WHOLE
    return replace(extent, data=asked.data or extent.data, epochs=asked.epochs or extent.epochs)


def run_part(name: str, work: Work) -> dict[str, Any]:
    """Run one part to its end or to its failure; return its figures, its seconds and the reason of a failure."""
    print(f"--- {name}", file=sys.stderr, flush=True)
    figures, reason, started = dict[str, Any](), "", perf_counter()
    try:
        for key, value in PARTS[name](work):
            figures[key] = value
    except CheckError as error:
        reason = str(error)
    except Exception as error:  # a fault of one part stops no other, and its reason belongs into the file
        reason = f"{type(error).__name__}: {error}"
    seconds = round(perf_counter() - started, 1)
    return {"passed": not reason, "reason": reason, "seconds": seconds, "figures": figures}


def _parts(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in PARTS]:
        raise argparse.ArgumentTypeError(f"there is no part {unknown[0]!r}: choose from {', '.join(PARTS)}")
    return names
