"""Cold start and frame ages, measured on `python -m inference run` in its own process, as in a car."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure.candidates import Candidate
from benchmarks.measure.speed.timed_frames import SYNTHETIC, TimedInput
from benchmarks.results.candidate import CandidateResult
from core.errors import CheckError
from core.stats import Floats, summarize

log = logging.getLogger(__name__)

ROOT = Path(__file__).parents[3]
LIMIT_S = 120.0


def run_runner(candidate: Candidate, timed: TimedInput, frames: int, *more: str) -> dict[str, Any]:
    """Run `python -m inference run` on the source and the regions that are timed; return its summary.

    Raises CheckError when it fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        camera = timed.write_camera(Path(folder))
        # the car's own command in a new process: a cold start begins with the interpreter
        command = [sys.executable, "-m", "inference", "run", str(candidate.bundle.path.resolve()), "--json"]
        command += ["--backend", candidate.backend, "--precision", candidate.precision, "--camera", str(camera)]
        command += ["--threads", str(candidate.threads), "--source", timed.uri or SYNTHETIC]
        command += ["--frames", str(frames), *more]
        try:
            done = subprocess.run(
                command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S + frames, check=False
            )
        except subprocess.TimeoutExpired:
            raise CheckError(f"{candidate.name} did not answer {frames} frames in {LIMIT_S + frames:.0f} s") from None
    if done.returncode:
        # the runner ends with one sentence; what stands before it is its log
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise CheckError(f"{candidate.name} does not run in the car's runner: {reason}")
    summary: dict[str, Any] = json.loads(done.stdout)
    return summary


def with_cold_start(result: CandidateResult, candidate: Candidate, timed: TimedInput, times: int) -> CandidateResult:
    """Return the result with its cold start. A candidate that the runner refuses becomes not selectable."""
    log.info(f"cold start: {result.name}")
    try:
        return replace(result, cold_start_ms=measure_cold_start(candidate, timed, times))
    except CheckError as error:
        return replace(result, why_not=str(error))  # what the runner refuses cannot ship


def with_ages(result: CandidateResult, candidate: Candidate, timed: TimedInput, frames: int) -> CandidateResult:
    """Return the result with its frame ages in a paced run. A candidate that the runner refuses is not selectable."""
    log.info(f"paced run: {result.name}")
    try:
        return replace(result, age_ms=summarize(measure_ages(candidate, timed, frames)))
    except CheckError as error:
        return replace(result, why_not=str(error))


def measure_cold_start(candidate: Candidate, timed: TimedInput, times: int) -> float:
    """Return the median milliseconds from the start of a process to its first decision."""
    # the median: the first start also reads the files from the disk, which the others find in memory
    return float(np.median([run_runner(candidate, timed, 1)["cold_start_ms"] for _ in range(times)]))


def measure_ages(candidate: Candidate, timed: TimedInput, frames: int) -> Floats:
    """Return the age of each decision of a paced run in milliseconds, float64 (frames,)."""
    with tempfile.TemporaryDirectory() as folder:
        # without the overlay, whose encoder would take the cores that are measured
        run_runner(candidate, timed, frames, "--realtime", "--no-overlay", "--out", folder)
        lines = (Path(folder) / "decisions.jsonl").read_text(encoding="utf-8").splitlines()
    return np.array([json.loads(line)["age_ms"] for line in lines], np.float64)
