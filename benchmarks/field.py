"""The field: every candidate open at once with an A/A twin, measured for accuracy and then in turns for latency."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks.accuracy import Predictions, check_same_data, predict, score
from benchmarks.candidates import Candidate
from benchmarks.latency import Noise, Samples, judge_noise, take_turns
from benchmarks.statistics import summarise
from inference.backends import open_backend
from inference.pack import Pack
from inference.pipeline import Pipeline
from inference.preprocess import Bytes


@dataclass(frozen=True)
class Measured:
    """A candidate with what was measured of it."""

    candidate: Candidate
    opened: dict[str, Any]
    """What the open backend says of itself."""
    predictions: Predictions | None
    """None for a bundle of another size than the pack's."""
    samples: Samples

    @property
    def bytes(self) -> int:
        """The size of the file that runs."""
        return int(self.candidate.bundle.files[self.candidate.file_name(self.opened)]["bytes"])

    def as_json(self) -> dict[str, Any]:
        """Return the row of results.json."""
        candidate = self.candidate
        accuracy = None if self.predictions is None else score(self.predictions, candidate.bundle.classes)
        return {
            "name": candidate.name,
            "arch": candidate.arch,
            "precision": candidate.precision,
            "backend": candidate.backend,
            "threads": candidate.threads,
            "selectable": candidate.bundle.selectable and accuracy is not None,
            "size_px": candidate.bundle.geometry.size_px,
            "bytes": self.bytes,
            "opened": self.opened,
            "cold_start_ms": None,
            "accuracy": accuracy,
            "latency": {
                "frame_ms": summarise(self.samples.frame_ms.ravel()),
                "engine_ms": summarise(self.samples.engine_ms.ravel()),
            },
        }


@contextmanager
def open_pipelines(candidates: Sequence[Candidate]) -> Iterator[list[Pipeline]]:
    """Open every candidate at batch 1, and close them all."""
    pipelines: list[Pipeline] = []
    try:
        for c in candidates:
            backend = open_backend(c.backend, c.bundle, c.precision, batch=1, threads=c.threads)
            pipelines.append(Pipeline(c.bundle, backend))
        yield pipelines
    finally:
        for pipeline in pipelines:
            pipeline.backend.close()


def measure_field(
    candidates: Sequence[Candidate], pack: Pack, frames: Sequence[Bytes], *, samples: int
) -> tuple[list[Measured], Noise]:
    """Measure accuracy and latency of every candidate; the first one runs twice, as the A/A pair."""
    for candidate in candidates:
        check_same_data(pack, candidate.bundle)
    with open_pipelines([*candidates, candidates[0]]) as pipelines:
        predictions = [_predict(c, p, pack) for c, p in zip(candidates, pipelines, strict=False)]
        thresholds = [p.abstain_threshold for p in (*(c.bundle for c in candidates), candidates[0].bundle)]
        taken = take_turns(pipelines, frames, thresholds=thresholds, samples=samples, on_round=show_progress("latency"))
        measured = [
            Measured(c, pipeline.backend.describe(), said, timed)
            for c, pipeline, said, timed in zip(candidates, pipelines, predictions, taken, strict=False)
        ]
    return measured, judge_noise(taken[0], taken[-1], taken)


def _predict(candidate: Candidate, pipeline: Pipeline, pack: Pack) -> Predictions | None:
    if candidate.bundle.geometry != pack.geometry:
        return None
    print(f"accuracy: {candidate.name}", file=sys.stderr)
    return predict(pipeline, pack)


def show_progress(what: str) -> Any:
    """Return a callback that says how far `what` is, at every tenth of it, on stderr."""

    def show(done: int, total: int) -> None:
        if done * 10 // total != (done - 1) * 10 // total:
            print(f"{what}: {100 * done // total}%", file=sys.stderr)

    return show
