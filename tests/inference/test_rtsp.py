"""A camera on the network as it is: a real RTSP server that dies, comes back, hangs, wants a password."""

from __future__ import annotations

import time

import cv2
import numpy as np
import pytest

from inference.errors import InputError
from inference.sources import SourceLost, SourceRefused, open_source
from tests.inference.rtsp import RtspServer, true_age_ms, why_no_server

pytestmark = pytest.mark.skipif(bool(why_no_server()), reason=f"no RTSP server: {why_no_server()}")


@pytest.fixture(scope="module")
def camera():
    server = RtspServer().start()
    yield server
    server.kill()


@pytest.fixture
def mortal():
    server = RtspServer().start()
    yield server
    server.kill()


def read_ages(source, count, pause_s=0.0):
    """Return the true ages of frames in milliseconds as they are read, and their ids."""
    ages, ids = [], []
    until = time.monotonic() + 30
    while len(ages) < count and time.monotonic() < until:
        if (frame := source.read(2.0)) is not None:
            ages.append(true_age_ms(frame.image_bgr, time.monotonic_ns()))
            ids.append(frame.frame_id)
            time.sleep(pause_s)
    assert len(ages) == count
    return ages, ids


def read_until_lost(source):
    until = time.monotonic() + 20
    while time.monotonic() < until:
        source.read(1.0)


def test_the_first_frame_is_not_one_that_waited_while_the_stream_was_opened(camera):
    """FFmpeg hands out first the second of video that it took in to learn what it is."""
    source = open_source(camera.uri)
    try:
        ages, _ = read_ages(source, 30)
    finally:
        source.close()
    assert ages[0] < np.median(ages[10:]) + 400, ages


def test_a_slow_reader_gets_the_newest_frame_and_the_rest_are_counted(camera):
    source = open_source(camera.uri)
    try:
        read_ages(source, 1)
        ages, ids = read_ages(source, 8, pause_s=0.3)
    finally:
        source.close()
    assert max(ages) < 600, ages  # after 8 x 0.3 s a queue would be 2 s long
    assert np.diff(ids).min() >= 3


def test_no_frame_is_held_back_by_the_decoders_threads(camera, monkeypatch):
    """A decoder of n threads holds back n - 1 frames of 33 ms, unseen by any stamp of ours."""
    given = []
    real = cv2.VideoCapture
    monkeypatch.setattr(
        cv2, "VideoCapture", lambda target, api, options: given.append(options) or real(target, api, options)
    )
    source = open_source(camera.uri)
    try:
        read_ages(source, 1)
    finally:
        source.close()
    assert dict(zip(given[0][::2], given[0][1::2], strict=True))[cv2.CAP_PROP_N_THREADS] == 1


def test_a_server_that_dies_is_lost_and_comes_back(mortal):
    source = open_source(mortal.uri)
    try:
        _, ids = read_ages(source, 3)
        mortal.kill()
        with pytest.raises(SourceLost, match="gives no more frames"):
            read_until_lost(source)
        source.reopen()
        with pytest.raises(SourceLost, match="Connection refused"):
            read_until_lost(source)
        mortal.start()
        source.reopen()
        ages, later = read_ages(source, 3)
    finally:
        source.close()
    assert later[0] > ids[-1]
    assert max(ages) < 600, ages


def test_a_wrong_path_is_said_by_its_number(camera):
    source = open_source(camera.uri + "-2")
    try:
        with pytest.raises(SourceLost, match="404"):
            source.read(20.0)
    finally:
        source.close()


def test_a_wrong_password_ends_the_command_and_a_right_one_opens():
    server = RtspServer(password="s3cr:t@").start()
    try:
        for user in ("", "user:wrong@"):
            source = open_source(server.uri.replace("//", f"//{user}"))
            with pytest.raises(InputError, match=r"401, unauthorized.*password"):
                source.read(20.0)
            source.close()
        source = open_source(server.uri.replace("//", "//user:s3cr%3At%40@"))
        read_ages(source, 1)
        source.close()
    finally:
        server.kill()


def test_a_password_that_was_taken_once_is_tried_again():
    """Within a drive a refusal may pass: the camera restarts, or its user is renewed."""
    source = open_source("rtsp://127.0.0.1:9/x")
    source.close()
    source._next_id = 7
    source._mailbox.close(SourceRefused("401"))
    with pytest.raises(SourceLost, match="401"):
        source.read(0.1)
