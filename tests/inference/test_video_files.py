"""Video files as phones, cameras and crashes leave them: nothing is silently missing, each frame has its own time."""

from __future__ import annotations

import json
import time
from types import SimpleNamespace

import av
import numpy as np
import pytest

from core.errors import InputError
from core.geometry.frame import Frame
from inference.capture import live
from inference.capture.base import EndOfStream
from inference.capture.live import PacedReader
from inference.commands.run import read_arguments, run_from_args
from inference.sources import open_source
from tests.bundles import make_bundle
from tests.inference.sources.videos import cut, noise, write_film

STEADY_MS = np.arange(60) * 1000 / 30
VARIABLE_MS = np.concatenate(([0], np.cumsum(np.random.default_rng(1).choice([16, 33, 50, 200, 400], 59)))).astype(
    float
)
CONTAINERS = ["mp4", "mov", "mkv", "ts", "flv"]


def read_film(path):
    """Return the times in milliseconds, the last picture and the facts of a film that is read to its end."""
    source = open_source(str(path))
    times, picture = [], None
    try:
        while True:
            frame = source.read(1.0)
            times.append(frame.media_ns / 1e6)
            picture = frame.image_bgr
    except EndOfStream:
        source.close()
    return SimpleNamespace(times=times, picture=picture, facts=source.report(), fps=source.fps)


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_the_time_of_a_frame_is_that_of_the_film_where_the_rate_varies(tmp_path, suffix):
    film = read_film(write_film(tmp_path / f"v.{suffix}", VARIABLE_MS))
    assert np.abs(np.array(film.times) - VARIABLE_MS).max() <= 1.0
    assert film.facts["frames_timed_by_fps"] == 0


@pytest.mark.parametrize("times_ms", [STEADY_MS, VARIABLE_MS], ids=["steady", "variable"])
@pytest.mark.parametrize("suffix", CONTAINERS)
def test_a_whole_film_is_not_called_cut_short(tmp_path, capsys, suffix, times_ms):
    film = read_film(write_film(tmp_path / f"v.{suffix}", times_ms))
    assert (film.facts["frames_read"], film.facts["cut_short"]) == (60, False)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("suffix", "times_ms", "options"),
    [
        ("mp4", STEADY_MS, {"movflags": "faststart"}),
        ("mp4", VARIABLE_MS, {"movflags": "faststart"}),
        ("mkv", STEADY_MS, {}),
        ("mkv", VARIABLE_MS, {}),
        ("flv", STEADY_MS, {}),
        ("avi", STEADY_MS, {"codec": "mjpeg"}),
    ],
)
def test_a_film_that_was_cut_short_says_how_much_is_missing(tmp_path, capsys, suffix, times_ms, options):
    path = cut(write_film(tmp_path / f"v.{suffix}", times_ms, **options), 0.5)
    facts = read_film(path).facts
    assert facts["cut_short"]
    assert 0 < facts["frames_read"] < 45
    said = capsys.readouterr().err
    assert said.count("warning") == 1
    assert f"{path} ended after {facts['frames_read']} of {facts['frames_announced']} announced frames" in said


def test_both_numbers_stand_in_the_summary(tmp_path):
    path = cut(write_film(tmp_path / "v.mp4", STEADY_MS, movflags="faststart"), 0.5)
    arguments = [make_bundle(tmp_path / "b").path, "--no-overlay", "--out", tmp_path / "o", "--source", path]
    run_from_args(read_arguments([str(a) for a in arguments]))
    found = json.loads((tmp_path / "o" / "summary.json").read_text())
    assert found["source_report"]["frames_announced"] == 60
    assert found["source_report"]["frames_read"] == found["frames"] < 45


def test_a_film_that_is_not_read_to_its_end_is_not_cut_short(tmp_path, capsys):
    source = open_source(str(write_film(tmp_path / "v.mp4", STEADY_MS)))
    source.read(1.0)
    source.close()
    assert not source.report()["cut_short"]
    assert capsys.readouterr().err == ""


def test_frames_without_a_time_are_counted_by_the_frame_rate_and_that_is_said_once(tmp_path, capsys):
    film = read_film(write_film(tmp_path / "v.h264", STEADY_MS[:10]))
    assert np.allclose(film.times, np.arange(10) * 1000 / film.fps)
    assert film.facts["frames_timed_by_fps"] == 9
    assert film.facts["frames_announced"] is None
    assert capsys.readouterr().err.count("have no time that rises") == 1


def test_time_goes_on_where_two_films_were_joined(tmp_path):
    film = write_film(tmp_path / "one.ts", VARIABLE_MS)
    (tmp_path / "two.ts").write_bytes(film.read_bytes() * 2)
    film = read_film(tmp_path / "two.ts")
    assert len(film.times) == 120
    assert np.allclose(np.diff(film.times[60:]), np.diff(VARIABLE_MS), atol=1.0)
    assert film.facts["frames_timed_by_fps"] == 1


def test_a_film_of_a_phone_held_upright_is_upright(tmp_path):
    assert read_film(write_film(tmp_path / "v.mp4", STEADY_MS[:3], turn=90)).picture.shape == (64, 48, 3)


def write_sound(path):
    with av.open(path, "w") as film:
        stream = film.add_stream("aac", rate=44_100)
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
        frame.rate, frame.pts = 44_100, 0
        film.mux(stream.encode(frame))
        film.mux(stream.encode())


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("empty.mp4", "is empty"),
        ("text.mp4", "no index: its end is missing, or it is no video"),
        ("half.mp4", "no index: its end is missing, or it is no video"),
        ("text.avi", "FFmpeg finds no picture in it"),
        ("sound.mp4", "FFmpeg finds no picture in it"),
    ],
)
def test_a_file_that_is_no_film_says_why(tmp_path, name, reason):
    path = tmp_path / name
    path.write_text("a text " * 50)
    if name == "empty.mp4":
        path.write_bytes(b"")
    elif name == "half.mp4":
        cut(write_film(path, STEADY_MS), 0.5)
    elif name == "sound.mp4":
        write_sound(path)
    with pytest.raises(InputError, match=name) as error:
        open_source(str(path))
    assert reason in str(error.value)


def test_a_long_pause_in_a_recording_is_played_as_a_short_one(monkeypatch):
    """A pause of seconds would look like a camera that hangs, and be opened again amid its own recording."""
    monkeypatch.setattr(live, "LONGEST_PAUSE_NS", 20_000_000)
    times_ns = [0, 3_600_000_000_000, 3_600_030_000_000]
    frames = iter([Frame(i, 0, noise(i), at) for i, at in enumerate(times_ns)])
    reader = PacedReader(SimpleNamespace(fps=30.0, read=lambda _: next(frames)))
    began = time.monotonic_ns()
    found = [reader.read(i, None) for i in range(3)]
    assert 35_000_000 <= found[-1].captured_ns - began <= 60_000_000_000  # the pauses are shortened, not left out
