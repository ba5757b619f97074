"""The table of the overhead beside Ultralytics."""

from __future__ import annotations

from benchmarks.peers import overhead
from benchmarks.peers.overhead import Overhead, Overheads


def test_each_row_is_divided_by_ultralytics_of_the_same_view(tmp_path, capsys):
    rows = [
        Overhead(view, tool, wall_ms, 0.4, 0.3, frame_ms)
        for view, tool, wall_ms, frame_ms in (
            ("one zone", "ours, linear", 0.5, 4.0),
            ("one zone", "ultralytics", 2.0, 5.0),
            ("the frame", "ultralytics", 8.0, 9.0),
        )
    ]
    overhead.report(tmp_path, Overheads("road.mp4", 1, 224, "0", tuple(rows)))
    printed = capsys.readouterr().out
    assert "| one zone | ours, linear | 0.500 | 0.400 | 0.300 | 4.000 | 0.250 | 0.100 |" in printed
    assert "| the frame | ultralytics | 8.000 | 0.400 | 0.300 | 9.000 | 1.000 | 0.889 |" in printed
