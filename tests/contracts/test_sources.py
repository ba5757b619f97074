"""The contract of a source, checked on every one that is found by name.

Cameras stand on a fake VideoCapture, streams on a small HTTP server.
A new source needs a line in PREPARE and one in WRONG.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

from core.errors import InputError
from core.geometry.frame import Frame
from core.plugins import names_in
from inference import sources
from inference.capture.base import EndOfStream, NotReopenable, SourceLost
from inference.capture.v4l2 import VideoNode
from inference.sources import camera, csi, kind_of, open_source
from tests.inference.capture.test_recording import record
from tests.inference.sources.test_network_sources import Camera, serving
from tests.inference.sources.videos import noise, write_images, write_video
from tests.waiting import wait_until

pytestmark = pytest.mark.usefixtures("patient_streams")

FRAMES = 6


class FakeCapture:
    """Stands for cv2.VideoCapture of a camera that is unplugged after FRAMES pictures."""

    def __init__(self, *_):
        self._n = 0

    def isOpened(self):
        return True

    def get(self, _):
        return 30.0

    def grab(self):
        self._n += 1
        time.sleep(0.02)
        return self._n <= FRAMES

    def retrieve(self, spare):
        if spare is None:
            return True, noise(self._n)
        spare[:] = noise(self._n)
        return True, spare

    def release(self):
        self._n = FRAMES


class ShortCamera(Camera):
    pictures = FRAMES


def stream(folder, request):
    server = serving(ShortCamera)
    port = server.__enter__()
    request.addfinalizer(lambda: server.__exit__(None, None, None))
    return f"http://127.0.0.1:{port}/video"


def usb(folder, request):
    patch = request.getfixturevalue("monkeypatch")
    patch.setattr(cv2, "VideoCapture", FakeCapture)
    patch.setattr(camera, "device_of", lambda uri: folder)
    patch.setattr(camera, "query_node", lambda device: VideoNode("cam", "uvc", ("MJPG",)))
    return "0"


def jetson(folder, request):
    patch = request.getfixturevalue("monkeypatch")
    patch.setattr(cv2, "VideoCapture", FakeCapture)
    patch.setattr(csi, "built_with", lambda key: "YES (1.20)")
    return "csi://0"


PREPARE: dict[str, Callable[[Path, pytest.FixtureRequest], str]] = {
    "camera": usb,
    "csi": jetson,
    "folder": lambda folder, _: str(write_images(folder / "images", FRAMES)),
    "replay": lambda folder, _: f"replay://{record(folder / 'recording', FRAMES)}",
    "stream": stream,
    "synthetic": lambda *_: f"synthetic://?frames={FRAMES}&width=160&height=90",
    "video": lambda folder, _: str(write_video(folder / "film.mp4", FRAMES)),
}
WRONG = {
    "camera": "/dev/video987",
    "csi": "csi://left",
    "folder": "no_such_folder.png",
    "replay": "replay://no_such_recording",
    "stream": "rtsp://",
    "synthetic": "synthetic://?scenario=noon",
    "video": "no_such_film.mp4",
}


@dataclass
class Case:
    name: str
    uri: str


@pytest.fixture(params=names_in(sources.__path__))
def case(request, tmp_path):
    return Case(request.param, PREPARE[request.param](tmp_path, request))


@pytest.fixture
def source(case):
    opened = open_source(case.uri)
    yield opened
    opened.close()


def read_to_the_end(source):
    """Return the frames, each with a copy of its picture, and the exception that ended them."""
    frames = []

    def ending():
        try:
            frame = source.read(1.0)
        except (EndOfStream, SourceLost) as end:
            return end
        if frame is not None:
            frames.append((frame, frame.image_bgr.copy()))
        return None

    return frames, wait_until(ending, "end of the source", lambda: f"{len(frames)} frames came")


def test_its_uri_leads_to_it(case):
    assert kind_of(case.uri) == case.name


def test_what_it_says_of_itself_can_be(source):
    assert math.isfinite(source.fps)
    assert source.fps > 0
    assert {type(source.live), type(source.sequence), type(source.synthetic)} == {bool}
    for x0, y0, x1, y1 in (source.zones or {}).values():
        assert 0 <= x0 < x1 <= 1
        assert 0 <= y0 < y1 <= 1


def test_its_frames_are_bgr_bytes_in_order_until_it_ends(source):
    frames, end = read_to_the_end(source)
    assert isinstance(end, SourceLost) == source.live
    assert len(frames) == FRAMES or (source.live and frames)
    for frame, _ in frames:
        assert isinstance(frame, Frame)
        assert (frame.image_bgr.dtype, frame.image_bgr.ndim, frame.image_bgr.shape[2]) == (np.uint8, 3, 3)
        assert min(frame.image_bgr.shape) > 0
    for field in ("captured_ns", "media_ns"):
        times = [getattr(frame, field) for frame, _ in frames]
        assert times == sorted(times), field
    ids = [frame.frame_id for frame, _ in frames]
    assert ids == sorted(set(ids))
    assert frames[-1][0].captured_ns <= time.monotonic_ns()


def test_a_picture_stays_as_it_is_until_the_next_read(source):
    while (frame := source.read(1.0)) is None:
        pass
    kept = frame.image_bgr.copy()
    time.sleep(0.1)  # a camera's thread goes on
    assert np.array_equal(frame.image_bgr, kept)


def test_an_end_stays_an_end(source):
    _, end = read_to_the_end(source)
    with pytest.raises(type(end)):
        source.read(0.1)


def test_it_can_be_opened_again_or_says_that_it_cannot(source):
    frames, _ = read_to_the_end(source)
    try:
        source.reopen()
    except NotReopenable:
        assert not source.live, "a camera that cannot be opened again stays lost"
        return
    more, _ = read_to_the_end(source)
    assert more[0][0].frame_id > frames[-1][0].frame_id


def test_closed_twice_is_closed_once_read_or_not(case, source):
    source.read(1.0)
    source.close()
    source.close()
    never_read = open_source(case.uri)
    never_read.close()
    never_read.close()


def test_its_report_is_json(source):
    read_to_the_end(source)
    source.close()
    assert json.loads(json.dumps(source.report())) == source.report()


@pytest.mark.parametrize("name", names_in(sources.__path__))
def test_what_is_wrong_is_one_sentence_with_a_hint(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=": ") as refused:
        open_source(WRONG[name])
    assert "\n" not in str(refused.value)
