"""Train and measure Ultralytics classify, timm + ONNX Runtime, and our own tools on one data set; print a table.

Ours is trained first. Each peer is then trained twice: for the same number of epochs, and for as many epochs as fit in
the processor time of our slowest network. Processor time, unlike wall time, is not stretched by other processes.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.measure.machine import describe_machine
from benchmarks.measure.speed.timed_frames import EGO, SIZE_PX, synthetic_frames
from benchmarks.peers.peer_job import PeerJob, PeerRow
from benchmarks.report.tables import three_digits
from benchmarks.studies.dated import markdown_table, write_dated
from core.cli import Parser, run_command
from core.codec import from_json, to_json
from core.errors import InputError
from core.files import read_json
from core.machine import cores
from core.stats import wilson
from inference.frame.regions import Zones

log = logging.getLogger(__name__)

HERE = Path(__file__).parent
RESULTS = HERE.parents[1] / "docs" / "results"
COLUMNS = (
    "tool", "network", "budget", "epochs", "train s", "CPU s", "train images/s", "a CPU s", "test accuracy % (95%)",
    "frame ms p50", "p99", "CPU ms a frame", "exported = trained %", "max dprob",
)  # fmt: skip


@dataclass(frozen=True)
class ToolResult:
    """The result of one tool with one training budget."""

    tool: str
    budget: str
    row: PeerRow


def main() -> None:
    """Run every job, one after the other; print the table and write it into the results folder."""
    args = parse()
    if not (args.data / "train").is_dir():
        raise InputError(f"{args.data} holds no train folder: give a data set of the form split/class/*.jpg")
    with tempfile.TemporaryDirectory() as folder:
        work = args.work or Path(folder)
        work.mkdir(parents=True, exist_ok=True)
        frames = (work / "frames.npy").resolve()
        np.save(frames, np.stack(synthetic_frames()))
        job = PeerJob(
            data=str(args.data.resolve()),
            frames=str(frames),
            size=args.size,
            epochs=args.epochs,
            seed=args.seed,
            workers=0 if cores() == 1 else 2,
            rect=Zones(EGO).rects(*SIZE_PX)[0],
            recipe=args.recipe,
            group=args.group,
        )
        report(args, run_all(work, job, args.models))


def run_all(work: Path, job: PeerJob, archs: Sequence[str]) -> list[ToolResult]:
    """Run ours; then each peer twice, with equal epochs and with the processor time of our slowest network."""
    ours = [sys.executable, "-m", "benchmarks.peers.ours"]
    rows = [run_job(work, "Rearguard", ours, replace(job, arch=arch), "equal epochs") for arch in archs]
    # the slowest of ours, so that no peer gets less time than one of ours had
    budget_s = max(result.row.training.cpu_seconds for result in rows)
    ultralytics = make_environment(work / "venv")
    peers = {
        "Ultralytics": [str(ultralytics), "-m", "benchmarks.peers.ultralytics_classify"],
        "timm + ORT": [sys.executable, "-m", "benchmarks.peers.timm_ort"],
    }
    for tool, command in peers.items():
        rows.append(run_job(work, tool, command, job, "equal epochs"))
        # epochs take equally long, so their number is scaled by the ratio of the times
        spent_s = rows[-1].row.training.cpu_seconds
        same_time = replace(job, epochs=max(1, round(job.epochs * budget_s / spent_s)))
        rows.append(run_job(work, tool, command, same_time, f"equal time, {budget_s:.0f} CPU s"))
    return rows


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("data", type=Path, metavar="DATA", help="a folder of the form split/class/*.jpg")
    parser.add_argument("--epochs", type=int, default=30, help="epochs of our training (default: 30)")
    parser.add_argument("--size", type=int, default=64, help="input size in pixels (default: 64)")
    parser.add_argument("--seed", type=int, default=0, help="seed of every training (default: 0)")
    parser.add_argument("--group", help="regular expression of the group in a file's name, for our pack")
    parser.add_argument("--recipe", default="edge", help="our training recipe (default: edge)")
    parser.add_argument(
        "--models",
        nargs="+",
        default=["mobilenet_inspired", "resnet_inspired"],
        help="our networks (default: mobilenet_inspired resnet_inspired)",
    )
    parser.add_argument("--work", type=Path, metavar="DIR", help="keep all files here; finished jobs are not run again")
    parser.add_argument(
        "--out", type=Path, default=RESULTS, metavar="DIR", help="the folder of the dated table (default: docs/results)"
    )
    return parser.parse_args()


def make_environment(path: Path) -> Path:
    """Create an environment with our packages and the locked ones of Ultralytics; return its python."""
    python = path / "bin" / "python"
    if not python.is_file():
        venv.create(path, with_pip=True)
        site = next(path.glob("lib/python*/site-packages"))
        # a .pth file adds a path: the environment sees torch, OpenCV and ONNX Runtime of this one
        (site / "ours.pth").write_text(str(Path(np.__file__).parents[1]))
        # without its dependencies: it would bring another torch and OpenCV than the other tools use
        install = ["install", "--quiet", "--no-deps", "--require-hashes", "-r", str(HERE / "requirements.txt")]
        subprocess.run([str(python), "-m", "pip", *install], check=True)
    return python


def run_job(work: Path, tool: str, command: list[str], job: PeerJob, budget: str) -> ToolResult:
    """Run one script in its own process and folder; return its result. A finished job is not run again.

    Raises InputError when it fails.
    """
    out = (work / re.sub(r"\W+", "_", f"{tool} {job.arch} {budget.split(',')[0]}")).resolve()
    result, file = out / "result.json", out / "job.json"
    text = json.dumps(to_json(replace(job, out=str(out))))
    # by the whole job: a result of other epochs or another size is none of this one
    if not (result.is_file() and file.read_text() == text):
        shutil.rmtree(out, ignore_errors=True)  # what an interrupted or a different job left
        out.mkdir()
        file.write_text(text)
        run_script(tool, budget, [*command, str(file)], out)
    return ToolResult(tool, budget, from_json(PeerRow, read_json(result), str(result)))


def run_script(tool: str, budget: str, command: list[str], out: Path) -> None:
    """Run one script; its output goes to stderr. Raises InputError when it fails."""
    log.info(f"{tool}, {budget}")
    # its settings go into the job's folder, and every tool trains on the CPU
    quiet = {"YOLO_CONFIG_DIR": str(out), "YOLO_VERBOSE": "False", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, stdout=sys.stderr, env=os.environ | quiet, check=False)
    if done.returncode:
        raise InputError(f"{tool} failed with {done.returncode}: its output is above")


def report(args: argparse.Namespace, rows: Sequence[ToolResult]) -> None:
    """Print the table; write it with the machine into the results folder."""
    machine = describe_machine()
    settings = {"size_px": args.size, "epochs": args.epochs, "recipe": args.recipe, "seed": args.seed}
    body = {"data": args.data.name, **settings, "machine": machine, "rows": rows}
    load = ", ".join(map(str, machine.load_average))
    lines = [
        f"{machine.cpu}, {machine.cores} of its cores; load average {load}. With a load above the number of"
        " cores, other processes lengthened the seconds and the frame times, but not the CPU s. Train images/s includes"
        " validation. A frame: the zone of the lane behind the car in 1280x720, from pixels to probabilities, by the"
        f" exported file. Every row is one seed, {args.seed}.",
        "",
        *markdown_table(COLUMNS, map(as_cells, rows)),
    ]
    write_dated(args.out, "peers", body, f"Peers on {args.data.name}, {args.size} px", lines)


def as_cells(result: ToolResult) -> list[str]:
    """Return the cells of a row of the table."""
    row = result.row
    spent = result.row.training
    files = result.row.files
    frame = result.row.frame_ms
    low, high = wilson(round(files.accuracy * files.n), files.n)
    rates = spent.seconds, spent.cpu_seconds, row.images / spent.seconds, row.images / spent.cpu_seconds
    return [
        *(result.tool, row.network, result.budget, str(row.epochs)),
        *map(three_digits, rates),
        f"{100 * files.accuracy:.1f} ({100 * low:.1f}-{100 * high:.1f})",
        *map(three_digits, (frame.p50, frame.p99, frame.cpu)),
        f"{100 * files.agreement:.1f}",
        three_digits(files.max_dprob),
    ]


if __name__ == "__main__":
    raise SystemExit(run_command(main))
