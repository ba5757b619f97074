"""The car's own command in a process of its own: cold start, and the age of frames at camera rate."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure.candidates import Candidate
from benchmarks.measure.frames import EGO
from core.errors import CheckError
from core.files import write_json
from core.stats import Floats

ROOT = Path(__file__).parents[3]
LIMIT_S = 120.0
COLD_STARTS = 3
DEFAULT_SOURCE = "synthetic://?frames=0"


def run_car(candidate: Candidate, source: str, frames: int, *more: str) -> dict[str, Any]:
    """Run `python -m inference run` on the ego zone; return its summary. Raises CheckError when it fails."""
    with tempfile.TemporaryDirectory() as folder:
        camera = Path(folder) / "camera.json"
        write_json(camera, {"zones": {name: list(rect) for name, rect in EGO.items()}})
        command = [sys.executable, "-m", "inference", "run", str(candidate.bundle.path.resolve()), "--json"]
        command += ["--backend", candidate.backend, "--precision", candidate.precision, "--camera", str(camera)]
        command += ["--threads", str(candidate.threads), "--source", source, "--frames", str(frames), *more]
        try:
            done = subprocess.run(
                command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S + frames, check=False
            )
        except subprocess.TimeoutExpired:
            raise CheckError(f"{candidate.name} did not answer {frames} frames in {LIMIT_S + frames:.0f} s") from None
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise CheckError(f"{candidate.name} does not run in the car's runner: {said}")
    summary: dict[str, Any] = json.loads(done.stdout)
    return summary


def measure_cold_start(candidate: Candidate, source: str, times: int = COLD_STARTS) -> float:
    """Return the median milliseconds from the start of a process to its first decision."""
    return float(np.median([run_car(candidate, source, 1)["cold_start_ms"] for _ in range(times)]))


def measure_ages(candidate: Candidate, source: str, frames: int) -> Floats:
    """Return the ages of the decisions of a paced run in milliseconds, float64 (frames,): idle gaps are included."""
    with tempfile.TemporaryDirectory() as folder:
        run_car(candidate, source, frames, "--realtime", "--no-overlay", "--out", folder)
        lines = (Path(folder) / "decisions.jsonl").read_text(encoding="utf-8").splitlines()
    return np.array([json.loads(line)["age_ms"] for line in lines], np.float64)
