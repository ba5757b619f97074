"""What the scripts of all tools share: a job in, a row of the table out, and the figures that are timed alike."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, TypeVar

import numpy as np

WARM_UPS, FRAMES = 20, 300
Trained = TypeVar("Trained")


def run(main: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Run the job whose file the command line names; write the row to the job's `result`."""
    job = json.loads(Path(sys.argv[1]).read_text())
    Path(job["result"]).write_text(json.dumps(main(job)))


def time_training(train: Callable[[], Trained]) -> tuple[Trained, dict[str, float]]:
    """Train; return what came of it, and the seconds on the clock and of the processor, those of its processes too."""
    started, spent = perf_counter(), sum(os.times()[:4])
    trained = train()
    return trained, {"train_seconds": perf_counter() - started, "cpu_seconds": sum(os.times()[:4]) - spent}


def compare_files(labels_n: Any, trained_nc: Any, exported_nc: Any) -> dict[str, Any]:
    """Return the accuracy of the exported file on the test rows, and how far it is from the network as trained."""
    said_n = exported_nc.argmax(1)
    return {
        "n": len(labels_n),
        "accuracy": float((said_n == labels_n).mean()),
        "agreement": float((said_n == trained_nc.argmax(1)).mean()),
        "max_dprob": float(np.abs(exported_nc - trained_nc).max()),
    }


def time_frames(job: dict[str, Any], answer: Callable[[Any], Any]) -> dict[str, float]:
    """Answer the job's frames one by one; return milliseconds of a frame, the first ones not counted."""
    frames, times_ms, started_cpu_s = np.load(job["frames"]), [], 0.0
    for i in range(-WARM_UPS, FRAMES):
        if i == 0:
            started_cpu_s = process_time()
        before = perf_counter()
        answer(frames[i % len(frames)])
        times_ms.append((perf_counter() - before) * 1000)
    cpu_ms = (process_time() - started_cpu_s) * 1000
    p50, p99 = np.quantile(times_ms[WARM_UPS:], (0.5, 0.99)).tolist()
    return {"frame_p50_ms": p50, "frame_p99_ms": p99, "frame_cpu_ms": cpu_ms / FRAMES}
