"""Put one data set through Ultralytics classify, timm + ONNX Runtime, and ours; print the table.

Usage: python -m benchmarks.peers DATA [--epochs 30 --size 64 --group REGEX --out DIR]. DATA: split/class/*.jpg.
Ours goes first; the peers then get the same epochs, and once more as many epochs as fit in the processor time of our
slowest network. Processor time, since it stays the same on a machine that others use too.
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
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure.frames import EGO, SIZE_PX, synthetic_frames
from benchmarks.measure.machine import describe_machine
from benchmarks.studies.dated import as_table, write_dated
from core.cli import Parser, run_command
from core.errors import InputError
from core.machine import cores
from core.stats import wilson
from inference.frame.regions import Zones

log = logging.getLogger(__name__)

HERE = Path(__file__).parent
RESULTS = HERE.parents[1] / "docs" / "results"
COLUMNS = {
    "tool": "tool", "network": "network", "budget": "budget", "epochs": "epochs", "train_seconds": "train s",
    "cpu_seconds": "CPU s", "images_per_s": "train images/s", "images_per_cpu_s": "a CPU s",
    "accuracy": "test accuracy % (95%)", "frame_p50_ms": "frame ms p50", "frame_p99_ms": "p99",
    "frame_cpu_ms": "CPU ms a frame", "agreement": "exported = trained %", "max_dprob": "max dprob",
}  # fmt: skip


def main() -> None:
    """Run every job one after the other; print the table and write it into docs/results."""
    options = parse()
    if not (options.data / "train").is_dir():
        raise InputError(f"{options.data} holds no train folder: give a data set of the form split/class/*.jpg")
    with tempfile.TemporaryDirectory() as folder:
        work = options.work or Path(folder)
        work.mkdir(parents=True, exist_ok=True)
        np.save(work / "frames.npy", np.stack(synthetic_frames()))
        rect = [int(edge) for edge in Zones(EGO).rects(*SIZE_PX)[0]]
        base = {"data": str(options.data.resolve()), "size": options.size, "epochs": options.epochs, "rect": rect}
        base |= {"frames": str((work / "frames.npy").resolve()), "recipe": options.recipe, "group": options.group}
        base |= {"seed": options.seed, "workers": 0 if cores() == 1 else 2}
        ours = [sys.executable, "-m", "benchmarks.peers.ours"]
        rows = [run_job(work, "Rearguard", ours, {**base, "arch": arch}, "equal epochs") for arch in options.models]
        budget_s = max(row["cpu_seconds"] for row in rows)
        ultralytics = make_environment(work / "venv")
        peers = {
            "Ultralytics": [str(ultralytics), "-m", "benchmarks.peers.ultralytics_classify"],
            "timm + ORT": [sys.executable, "-m", "benchmarks.peers.timm_ort"],
        }
        for tool, command in peers.items():
            rows.append(run_job(work, tool, command, base, "equal epochs"))
            epochs = max(1, round(options.epochs * budget_s / rows[-1]["cpu_seconds"]))
            again = {**base, "epochs": epochs}
            rows.append(run_job(work, tool, command, again, f"equal time, {budget_s:.0f} CPU s"))
    report(options, rows)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--group", help="regular expression of the group in a file's name, for our pack")
    parser.add_argument("--recipe", default="edge")
    parser.add_argument("--models", nargs="+", default=["mobilenet_inspired", "resnet_inspired"])
    parser.add_argument("--work", type=Path, metavar="DIR", help="keep what the tools write here, and go on from it")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="receives the dated table")
    return parser.parse_args()


def make_environment(path: Path) -> Path:
    """Make the temporary environment of Ultralytics, which sees ours and adds what is locked; return its python."""
    python = path / "bin" / "python"
    if not python.is_file():
        venv.create(path, with_pip=True)
        site = next(path.glob("lib/python*/site-packages"))
        (site / "ours.pth").write_text(str(Path(np.__file__).parents[1]))
        install = ["install", "--quiet", "--no-deps", "--require-hashes", "-r", str(HERE / "requirements.txt")]
        subprocess.run([str(python), "-m", "pip", *install], check=True)
    return python


def run_job(work: Path, tool: str, command: list[str], job: dict[str, Any], budget: str) -> dict[str, Any]:
    """Run one script in its own process and folder; return its row. What is there of the same job is taken as it is.

    Raises InputError when it fails.
    """
    words = [tool, job.get("arch", ""), budget.split(",")[0]]
    out = (work / re.sub(r"\W+", "_", " ".join(words))).resolve()
    job = {**job, "out": str(out), "result": str(out / "result.json")}
    told = json.dumps(job)
    if not ((out / "result.json").is_file() and (out / "job.json").read_text() == told):
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        (out / "job.json").write_text(told)
        run_script(tool, budget, [*command, str(out / "job.json")], out)
    return {"tool": tool, "budget": budget, **json.loads((out / "result.json").read_text())}


def run_script(tool: str, budget: str, command: list[str], out: Path) -> None:
    """Run one script; what it says goes to stderr. Raises InputError when it fails."""
    log.info(f"{tool}, {budget}")
    quiet = {"YOLO_CONFIG_DIR": str(out), "YOLO_VERBOSE": "False", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, stdout=sys.stderr, env=os.environ | quiet, check=False)
    if done.returncode:
        raise InputError(f"{tool} failed with {done.returncode}: what it said stands above")


def report(options: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
    """Print the table; write it with the machine into the results folder."""
    machine = describe_machine()
    asked = {"size_px": options.size, "epochs": options.epochs, "recipe": options.recipe, "seed": options.seed}
    body = {"data": options.data.name, **asked, "machine": machine, "rows": rows}
    load = ", ".join(map(str, machine.load_average))
    lines = [
        f"{machine.cpu}, {machine.cores} of its cores; load average {load}: above the number of cores, others"
        " were at work, and seconds and frame times are theirs too, while CPU s are ours. Train images/s includes"
        " validation. A frame is the lane behind the car out of 1280x720, from pixels to probabilities, on the exported"
        f" file. Every row is one seed, {options.seed}.",
        "",
        *as_table([*COLUMNS.values()], [[cell(name, row) for name in COLUMNS] for row in rows]),
    ]
    write_dated(options.out, "peers", body, f"Peers on {options.data.name}, {options.size} px", lines)


def cell(name: str, row: dict[str, Any]) -> str:
    """Write one figure."""
    value = row["images_per_s"] * row["train_seconds"] / row["cpu_seconds"] if name == "images_per_cpu_s" else row[name]
    if name == "accuracy":
        low, high = wilson(round(value * row["n"]), row["n"])
        return f"{100 * value:.1f} ({100 * low:.1f}-{100 * high:.1f})"
    if name == "agreement":
        return f"{100 * value:.1f}"
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    raise SystemExit(run_command(main))
