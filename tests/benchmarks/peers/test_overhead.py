"""The peers' overhead: the row of the program itself, which needs no peer."""

from __future__ import annotations

import argparse

from benchmarks.peers import overhead
from benchmarks.peers.overhead import Overhead, Overheads
from tests.bundles import make_bundle


def test_the_program_itself_is_run_once_a_view_and_its_stages_are_read(tmp_path):
    bundle = make_bundle(tmp_path / "bundle").path
    asked = argparse.Namespace(video="synthetic://?frames=30", bundle=bundle, frames=24, rounds=1)
    rows = overhead.run_program(asked)
    assert [(row.tool, row.view) for row in rows] == [("ours, inference run", view) for view in overhead.VIEWS]
    assert all(0 < row.wall_ms < row.frame_ms for row in rows)


def test_a_figure_that_was_not_taken_is_a_dash(tmp_path, capsys):
    row = Overhead("one zone", "ours, inference run", 0.5, None, None, 4.0)
    overhead.report(tmp_path, Overheads("road.mp4", 1, 224, "0", (row,)))
    assert "| one zone | ours, inference run | 0.500 | - | - | 4.000 | - | - |" in capsys.readouterr().out
