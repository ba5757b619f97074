import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np
import pytest

from core.errors import InputError
from inference.capture.base import SourceLost
from inference.sources import open_source
from tests.waiting import wait_until

pytestmark = pytest.mark.usefixtures("patient_streams")


class Camera(BaseHTTPRequestHandler):
    """An MJPEG camera: grey pictures, one level brighter after every 20; after `pictures`, half a one."""

    pictures = 3000

    def do_GET(self):
        if self.path in ("/401", "/403", "/404"):
            self.send_response(int(self.path[1:]))
            if self.path == "/401":
                self.send_header("WWW-Authenticate", 'Basic realm="camera"')
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        for n in range(3200):
            jpeg = cv2.imencode(".jpg", np.full((48, 64, 3), 40 + n // 20, np.uint8))[1].tobytes()
            try:
                if n == self.pictures:
                    self.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\n\r\n" + jpeg[: len(jpeg) * 3 // 4])
                    return
                self.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(jpeg))
                self.wfile.write(jpeg + b"\r\n")
            except OSError:
                return
            time.sleep(0.02)

    def log_message(self, *_):
        pass


@contextmanager
def serving(handler):
    """Serve in a thread; yield the port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@pytest.fixture
def camera():
    with serving(Camera) as port:
        yield f"http://127.0.0.1:{port}/video"


def read_until_it_ends(uri):
    """Return the frames that a stream gives before it is lost or refused, and with what it ended."""
    source, frames = open_source(uri), []

    def ending():
        try:
            if (frame := source.read(1.0)) is not None:
                frames.append(frame.image_bgr.copy())
        except (SourceLost, InputError) as error:
            return error
        return None

    try:
        return frames, wait_until(ending, "end of the stream", lambda: f"{len(frames)} frames came")
    finally:
        source.close()


def test_an_http_camera_gives_newer_and_newer_frames(camera):
    source, ids, levels = open_source(camera), [], []

    def is_brighter():
        if (frame := source.read(1.0)) is not None:
            ids.append(frame.frame_id)
            levels.append(float(frame.image_bgr.mean()))
        return bool(levels) and levels[-1] > levels[0]

    try:
        wait_until(is_brighter, "brighter picture", lambda: levels)
    finally:
        source.close()
    assert ids == sorted(set(ids))
    assert levels == sorted(levels)


@pytest.mark.parametrize("status", ["401", "403"])
def test_a_server_that_refuses_us_ends_the_command(camera, status):
    _, error = read_until_it_ends(camera.replace("video", status))
    assert isinstance(error, InputError)
    assert status in str(error)
    assert "password" in str(error)


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("http://127.0.0.1:{port}/404", "error 404"),
        ("rtsp://127.0.0.1:9/camera", "Connection refused"),
        ("rtmp://127.0.0.1:9/live", "Connection refused"),
        ("https://127.0.0.1:9/video", "Connection refused"),
        ("rtsp://no-such-host.invalid/camera", "resolve"),
    ],
)
def test_a_stream_that_does_not_open_says_why(camera, uri, reason):
    _, error = read_until_it_ends(uri.format(port=camera.split(":")[2].split("/")[0]))
    assert isinstance(error, SourceLost), error
    assert reason in str(error)


def test_a_stream_that_nobody_sends_says_how_long_it_was_waited_for(monkeypatch):
    monkeypatch.setattr("inference.capture.reader.ANSWERS_S", 0.3)
    monkeypatch.setattr("inference.sources.stream.OPTIONS", (cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, 400))
    _, error = read_until_it_ends("udp://127.0.0.1:49999")
    assert "does not answer within" in str(error)


def test_a_stream_that_ends_amid_a_picture_gives_only_the_whole_ones(camera, monkeypatch):
    monkeypatch.setattr(Camera, "pictures", 4)
    frames, error = read_until_it_ends(camera)
    assert isinstance(error, SourceLost)
    assert frames
    assert all(np.ptp(frame) <= 2 for frame in frames)  # each is of one grey: nothing was filled up


def test_a_csi_camera_needs_gstreamer_and_says_so():
    if "GStreamer:                   YES" in cv2.getBuildInformation():
        pytest.skip("this OpenCV has GStreamer")
    with pytest.raises(InputError, match="needs an OpenCV with GStreamer"):
        open_source("csi://0")


@pytest.mark.parametrize("uri", ["csi://", "csi://front"])
def test_a_csi_camera_has_a_number(uri):
    with pytest.raises(InputError, match="give csi://0"):
        open_source(uri)
