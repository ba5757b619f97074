"""Serves the read-only web page of a run (`--web 127.0.0.1:8080`): picture, zones, state, /state.json and /metrics.

The page polls, so that no connection stays open. Pictures are encoded only while a client watches, once for all of
them. The server is imported only when the page is requested.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from time import monotonic_ns
from typing import TYPE_CHECKING

import cv2
import numpy as np

from core.errors import InputError
from core.geometry.frame import Bytes
from inference.frame.decision import Decision
from inference.frame.detection.tracked_regions import TrackedRegions
from inference.sinks import Sink, SinkContext

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from inference.sinks.web.live_status import LiveStatus

PICTURE_NS = 80_000_000
"""The shortest time between two pictures for people: 12 a second."""
WIDEST_PX = 960
QUALITY = 80
HINT = "give --web PORT or HOST:PORT, such as 8080"


@dataclass(frozen=True)
class Options:
    """The address of the page, and its token."""

    web: str | None = None
    """PORT or HOST:PORT; None: nothing is served."""
    web_token: str | None = field(default=None, repr=False)
    """The word that a client must send; None: no word is needed."""

    def __post_init__(self) -> None:
        if self.web is None and self.web_token is not None:
            raise InputError("--web-token is given without --web: give --web 8080 too")
        if self.web_token is not None and not self.web_token:
            raise InputError("--web-token is empty: give a word that is hard to guess")


def open_sink(context: SinkContext, options: Options) -> Sink | None:
    """Open the page where --web asks for it. Raises InputError for a bad address, or when waitress is missing."""
    if options.web is None:
        return None
    host, port = read_address(options.web)
    # imported only where the page is requested, as the server is
    from inference.sinks.web.live_status import LiveStatus

    about = {"arch": context.bundle.arch, "contract": context.bundle.contract_hash[:12]}
    status = LiveStatus(
        context.bundle.classes,
        about,
        fixed_zones=context.region_source.fixed,
        detector=isinstance(context.region_source, TrackedRegions),
        mirror=context.camera.mirror_for_people,
        restarts=context.restarts,
    )
    return WebSink(host, port, options.web_token, status)


def read_address(text: str) -> tuple[str, int]:
    """Return host and port of `8080`, `0.0.0.0:8080` or `[::1]:8080`; without a host, this machine only."""
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") or "127.0.0.1"
    if not (port.isascii() and port.isdigit() and int(port) <= 65535):
        raise InputError(f"--web is {text!r}: {HINT}")
    return host, int(port)


class WebSink(Sink):
    """Keeps the live status and serves it. Closing stops the server and all its threads."""

    name = "web"
    needs_picture = True
    max_pictures = 2
    newest_only = True

    def __init__(self, host: str, port: int, token: str | None, status: LiveStatus) -> None:
        from core.page_server import Server, is_loopback
        from inference.sinks.web.routes import PAGE, routes_of

        self.status = status
        self._due_ns = 0
        self._server = Server(host, port, token, PAGE.read_bytes(), routes_of(status))
        self.port = self._server.port
        name = f"[{host}]" if ":" in host else host
        if token is None and not is_loopback(host):
            log.warning(f"everyone who reaches {name}:{self.port} sees the camera: give --web-token")
        log.info(f"the page is at http://{name}:{self.port}/")

    def wants_picture(self) -> bool:
        """Return True up to twelve times a second while a client watches."""
        now = monotonic_ns()
        if now < self._due_ns or not self.status.is_watched(now):
            return False
        self._due_ns = now + PICTURE_NS
        return True

    def write(self, decision: Decision, frame_bgr: Bytes | None) -> None:
        """Add one decision to the live status, its picture as a JPEG."""
        self.status.add(decision)
        if frame_bgr is None:
            return
        height, width = frame_bgr.shape[:2]
        shrink = max(1.0, width / WIDEST_PX)
        size = (round(width / shrink), max(round(height / shrink), 1))
        small = cv2.resize(frame_bgr, size, interpolation=cv2.INTER_AREA) if shrink > 1 else frame_bgr
        # after it was shrunk, when there is less to turn; `_snapshot_json` turns the rectangles
        if self.status.mirror:
            small = cv2.flip(small, 1)
        whole, jpeg = cv2.imencode(".jpg", np.asarray(small), (cv2.IMWRITE_JPEG_QUALITY, QUALITY))
        if whole:
            self.status.add_snapshot(decision, jpeg.tobytes(), (width, height))

    def close(self) -> None:
        """Stop the server."""
        self._server.close()
