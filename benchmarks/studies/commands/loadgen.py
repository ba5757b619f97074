"""Drive the front of a measured run with MLPerf's own load generator, beside our own timing; print a JSON object."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.measure.frames import synthetic_frames
from benchmarks.studies.loadgen import open_front, run_loadgen
from core.cli import Parser
from core.data.run_dir import open_run


def main(arguments: list[str]) -> None:
    """Run `python -m benchmarks.studies loadgen`."""
    parser = Parser(prog="python -m benchmarks.studies loadgen", description=__doc__)
    parser.add_argument("run", type=Path, metavar="runs/NAME", help="a run that `python -m benchmarks` has measured")
    run = open_run(parser.parse_args(arguments).run)
    print(json.dumps(run_loadgen(open_front(run), run.open_pack(), synthetic_frames()), indent=1))
