"""A real RTSP server for the tests, in a process of its own, and the time that its frames carry."""

from __future__ import annotations

import functools
import socket
import subprocess
from pathlib import Path

import numpy as np

PYTHON, SERVER = "/usr/bin/python3", Path(__file__).with_name("rtsp_server.py")
COLUMNS, ROWS, MIDDLE = 8, 4, 125


@functools.cache
def why_no_server() -> str:
    """Return why there can be no server on this machine, an empty string where there can."""
    try:
        done = subprocess.run([PYTHON, SERVER, "0", "--check"], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["no GStreamer"])[-1]


class RtspServer:
    """H.264, 1280x720, 30 fps at `uri`, on the same port each time it is started."""

    def __init__(self, password: str = "", *more: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.uri = f"rtsp://127.0.0.1:{self.port}/camera"
        self._options = ["--password", password, *more]
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> RtspServer:
        """Start it, and wait until it takes connections."""
        command = [PYTHON, str(SERVER), str(self.port), *self._options]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"
        return self

    def kill(self) -> None:
        """End it at once, if it runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None


def shown_ms(image_bgr: np.ndarray) -> int:
    """Return the lowest 32 bits of the monotonic milliseconds when a frame was made. Only a block's middle is read."""
    height, width = image_bgr.shape[0] // ROWS, image_bgr.shape[1] // COLUMNS
    blocks = image_bgr[..., 1].reshape(ROWS, height, COLUMNS, width)
    middles = blocks[:, height // 4 : -height // 4, :, width // 4 : -width // 4].mean(axis=(1, 3))
    return int("".join("1" if bright else "0" for bright in (middles > MIDDLE).ravel()), 2)


def true_age_ms(image_bgr: np.ndarray, now_ns: int) -> int:
    """Return how long ago, in milliseconds, a frame was made."""
    return (now_ns // 1_000_000 - shown_ms(image_bgr)) & 0xFFFFFFFF
