import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np
import pytest

from inference.errors import InputError
from inference.sources import open_source


class Camera(BaseHTTPRequestHandler):
    """An MJPEG camera: grey pictures, one level brighter each time."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        for level in range(40, 200):
            jpeg = cv2.imencode(".jpg", np.full((48, 64, 3), level, np.uint8))[1].tobytes()
            try:
                self.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(jpeg))
                self.wfile.write(jpeg + b"\r\n")
            except OSError:
                return
            time.sleep(0.02)

    def log_message(self, *_):
        pass


@pytest.fixture
def camera():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Camera)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/video"
    server.shutdown()


def test_an_http_camera_gives_newer_and_newer_frames(camera):
    source = open_source(camera)
    try:
        frames = []
        while len(frames) < 3:
            if (frame := source.read(10.0)) is not None:
                frames.append((frame.frame_id, float(frame.image_bgr.mean())))
    finally:
        source.close()
    assert [f[0] for f in frames] == sorted({f[0] for f in frames})
    assert frames[-1][1] > frames[0][1]


def test_a_csi_camera_needs_gstreamer_and_says_so():
    if "GStreamer:                   YES" in cv2.getBuildInformation():
        pytest.skip("this OpenCV has GStreamer")
    with pytest.raises(InputError, match="needs an OpenCV with GStreamer"):
        open_source("csi://0")


@pytest.mark.parametrize("uri", ["csi://", "csi://front"])
def test_a_csi_camera_has_a_number(uri):
    with pytest.raises(InputError, match="give csi://0"):
        open_source(uri)
