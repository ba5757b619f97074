"""The queue before each sink: nothing that a sink does is waited for by a live camera, and what is lost is counted."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from core.errors import InputError
from inference import sinks
from inference.commands.run import read_arguments
from inference.frame.annotate import annotate
from inference.frame.decider import UNPROVED
from inference.frame.decision import Decision, Verdict
from inference.frame.states import State
from inference.runner.sink_worker import SinkWorker
from inference.sinks import Sink, SinkContext, open_sinks
from inference.sinks.jsonl import JsonlSink
from inference.sinks.overlay import OverlaySink
from tests.bundles import make_bundle
from tests.inference.fake_camera import drive, good
from tests.waiting import LONGEST_S

ROOT = Path(__file__).parents[3]


class Blocked(Sink):
    """Takes nothing until it is released; keeps what it was given."""

    name, queue_size, needs_picture = "blocked", 4, True

    def __init__(self, **attributes):
        self.release, self.took, self.taken = threading.Event(), threading.Event(), []
        vars(self).update(attributes)

    def write(self, decision, frame_bgr):
        self.took.set()
        self.release.wait(LONGEST_S)
        self.taken.append((decision, None if frame_bgr is None else int(frame_bgr[0, 0, 0])))

    def close(self):
        pass


def submitted(sink, count, *, lossless=False):
    """Submit `count` decisions to a sink that has taken the first and blocks; let it go on; return its worker."""
    worker = SinkWorker(sink, waits=lossless)
    for i in range(count):
        worker.submit(i, np.full((2, 2, 3), i, np.uint8))
        if i == 0:
            assert sink.took.wait(LONGEST_S)
    sink.release.set()
    worker.close(LONGEST_S)
    return worker


def test_a_sink_that_keeps_all_loses_what_is_newest_and_counts_it():
    sink = Blocked()
    worker = submitted(sink, 10)
    assert [d for d, _ in sink.taken] == [0, 1, 2, 3]  # the pool of four pictures is what ends first
    assert (worker.written, worker.dropped) == (4, 6)


def test_a_sink_for_which_only_the_newest_matters_loses_the_oldest_and_counts_it():
    sink = Blocked(newest_only=True)
    worker = submitted(sink, 10)
    assert [d for d, _ in sink.taken] == [0, 6, 7, 8, 9]
    assert (worker.written, worker.dropped) == (5, 5)


def test_when_the_pictures_are_all_in_use_the_numbers_go_without():
    sink = Blocked(newest_only=True, queue_size=16, max_pictures=2)
    submitted(sink, 6)
    assert sink.taken == [(0, 0), (1, 1), (2, None), (3, None), (4, None), (5, None)]


def test_not_even_a_recorded_source_waits_for_a_sink_that_wants_only_the_newest():
    assert submitted(Blocked(newest_only=True), 10, lossless=True).dropped == 5


def test_a_picture_that_the_sink_does_not_want_now_is_not_copied():
    sink = Blocked(wants_picture=lambda: False)
    submitted(sink, 3)
    assert [p for _, p in sink.taken] == [None, None, None]


@dataclass(frozen=True)
class NoOptions:
    pass


@dataclass(frozen=True)
class SomeOptions:
    given: int = 1
    not_given: int = 2


@pytest.fixture
def two_sinks(monkeypatch):
    """Two modules in the place of the sinks there are: `first` opens, `second` as the test says."""
    first, modules = Blocked(close=lambda: setattr(first, "closed", True)), {}
    modules["first"] = SimpleNamespace(Options=NoOptions, open_sink=lambda context, options: first)
    monkeypatch.setattr(sinks, "names_in", lambda path: list(modules))
    monkeypatch.setattr(sinks, "load_usable", lambda package, names, parts, is_wanted: modules)
    return first, modules


CONTEXT = SinkContext(None, SimpleNamespace(live=True), None, None, ())


def test_a_sink_that_cannot_be_opened_closes_those_before_it(two_sinks):
    first, modules = two_sinks

    def fail(context, options):
        raise InputError("no")

    modules["second"] = SimpleNamespace(Options=NoOptions, open_sink=fail)
    with pytest.raises(InputError):
        open_sinks(CONTEXT, {})
    assert first.closed


def test_each_sink_gets_its_own_options_and_opens_only_where_they_ask_for_it(two_sinks):
    first, modules = two_sinks
    asked = []
    modules["second"] = SimpleNamespace(Options=SomeOptions, open_sink=lambda context, options: asked.append(options))
    assert open_sinks(CONTEXT, {"given": 3, "of_another": 4}) == [first]
    assert asked == [SomeOptions(given=3)]


def test_a_decision_carries_the_counts_of_all_sinks(tmp_path):
    broken = Blocked(name="broken", write=lambda decision, frame_bgr: 1 / 0)
    done = drive(tmp_path, good(6), sinks=[broken])
    status = {s.name: s for s in done.decisions[-1].sinks}
    assert (status["kept"].error, status["kept"].written > 0) == (None, True)
    assert "ZeroDivisionError" in status["broken"].error
    assert status["broken"].dropped > 0


def test_the_overlay_has_the_rate_that_the_camera_turned_out_to_have(tmp_path):
    leftover = tmp_path / ".overlay.1.part.mp4"
    leftover.touch()
    source = SimpleNamespace(fps=30.0, sequence=True)
    sink = OverlaySink(tmp_path / "overlay-1.mp4", source)
    source.fps = 12.0
    decision = Decision(0, 0, 1.0, 0, State.OK, ())
    sink.write(decision, np.zeros((90, 120, 3), np.uint8))
    sink.close()
    assert cv2.VideoCapture(str(tmp_path / "overlay-1.mp4")).get(cv2.CAP_PROP_FPS) == 12.0
    assert not leftover.exists()


@pytest.mark.parametrize("size", [(180, 320), (720, 1280)])
def test_the_overlay_says_the_reason_within_the_picture(size):
    black, verdict = (
        np.zeros((*size, 3), np.uint8),
        Verdict("ego", (0, 0, 9, 9), State.UNPROVED, None, "car", 0.9, "car"),
    )
    drawn = [
        annotate(black.copy(), Decision(0, 0, 1.0, 0, State.UNPROVED, (verdict,), reason=reason)).any(2)
        for reason in ("", UNPROVED)
    ]
    rows, columns = np.nonzero(drawn[0] != drawn[1])
    assert len(rows) > 1000
    assert columns.max() < size[1] - 1
    assert rows.min() > size[0] / 2


def test_text_that_is_no_unicode_is_drawn_with_a_mark():
    """OpenCV 5 crashes at a lone surrogate."""
    drawn = [
        annotate(np.zeros((90, 160, 3), np.uint8), Decision(0, 0, 1.0, 0, State.BLIND, (), reason=reason))
        for reason in ("caf\udce9", "caf?")
    ]
    assert np.array_equal(*drawn)


def test_an_overlay_is_written_to_a_folder_whose_name_is_not_utf8(tmp_path):
    script = (
        "import sys; from inference.commands import run; run.main(sys.argv[1:])"  # a process of its own: it may crash
    )
    out = os.fsencode(tmp_path) + b"/\xe9"
    source = ["--source", "synthetic://?frames=1&width=160&height=90", "--backend", "null", "--out", out]
    bundle = make_bundle(tmp_path / "b").path
    subprocess.run([sys.executable, "-c", script, bundle, *source], cwd=ROOT, check=True, capture_output=True)
    assert (Path(os.fsdecode(out)) / "overlay.mp4").is_file()


def test_nothing_is_opened_that_nobody_asked_for():
    assert open_sinks(CONTEXT, vars(read_arguments(["bundle", "--source", "0"]))) == []


def a_decision(number=0):
    return Decision(number, 0, 1.0, 0, State.BLIND, ())


def test_two_runners_do_not_write_one_file(tmp_path):
    first = JsonlSink(tmp_path / "d.jsonl")
    first.write(a_decision(), None)
    with pytest.raises(InputError, match=r"another runner writes .*d\.jsonl: give --out another folder"):
        JsonlSink(tmp_path / "d.jsonl")
    first.close()
    assert (tmp_path / "d.jsonl").read_text().count("\n") == 1
    JsonlSink(tmp_path / "d.jsonl").close()
    assert (tmp_path / "d.jsonl").read_text() == ""


def test_a_line_that_does_not_fit_on_the_disk_leaves_none_of_its_bytes(tmp_path):
    sink = JsonlSink(tmp_path / "d.jsonl")
    sink.write(a_decision(), None)
    whole = (tmp_path / "d.jsonl").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 10, limits[1]))
    try:
        with pytest.raises(OSError, match="No space left"):
            sink.write(a_decision(1), None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / "d.jsonl").read_bytes() == whole
    sink.close()


def pixels_of_the_name(rect):
    """Return the rows and columns of a picture of 960 x 540 that another name of a region changes."""
    drawn = []
    for name in ("track18", "track42"):
        verdict = Verdict(name, rect, State.OK, "motorcycle", "motorcycle", 0.9, "motorcycle")
        drawn.append(annotate(np.zeros((540, 960, 3), np.uint8), Decision(0, 0, 1.0, 0, State.OK, (verdict,))))
    return np.nonzero((drawn[0] != drawn[1]).any(2))


@pytest.mark.parametrize("rect", [(600, 300, 625, 318), (0, 0, 20, 15), (930, 400, 960, 440), (0, 400, 960, 420)])
def test_the_label_of_a_small_region_hides_none_of_it_and_lies_in_the_picture(rect):
    rows, columns = pixels_of_the_name(rect)
    x0, y0, x1, y1 = rect
    assert len(rows) > 20
    assert not ((x0 <= columns) & (columns < x1) & (y0 <= rows) & (rows < y1)).any()
    assert (rows.min() > 0, rows.max() < 500, columns.min() > 0, columns.max() < 940) == (True,) * 4


def test_the_label_of_a_large_region_lies_inside():
    rows, columns = pixels_of_the_name((100, 100, 500, 400))
    assert (rows.min() > 100, rows.max() < 250, columns.min() > 100, columns.max() < 500) == (True,) * 4


def test_the_labels_of_small_neighbors_do_not_hide_each_other():
    def white_pixels(*rects):
        verdicts = [Verdict(f"track{i}", rect, State.BLIND, None, "car", 0.9, "car") for i, rect in enumerate(rects)]
        drawn = annotate(np.zeros((540, 960, 3), np.uint8), Decision(0, 0, 1.0, 0, State.BLIND, tuple(verdicts)))
        return np.count_nonzero(drawn[:450].any(2))

    near, far = (300, 300, 330, 320), (600, 300, 630, 320)
    assert white_pixels(near, (320, 305, 350, 325), (340, 302, 370, 322)) > 0.9 * white_pixels(
        near, far, (10, 300, 40, 320)
    )
