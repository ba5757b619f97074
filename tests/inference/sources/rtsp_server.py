"""A camera on the network for the tests: GStreamer's RTSP server, H.264, whose frames carry their own time.

Run by the system's python3 (Debian: gir1.2-gst-rtsp-server-1.0, python3-gi), as a process of its own:

    /usr/bin/python3 rtsp_server.py PORT [--password SECRET] [--lookahead] [--check]

The picture is a grid of 8 x 4 blocks, dark or bright: the 32 bits of the monotonic clock in milliseconds, most
significant first, as it was when the frame was made. `shown_ms` in rtsp.py reads it again. Every second column has
stripes: where two rows of blocks show the same bits, a picture of plain blocks is flat enough for a covered lens.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

WIDTH, HEIGHT, FPS = 1280, 720, 30
COLUMNS, ROWS = 8, 4
DARK, BRIGHT = 60, 190
STRIPE_PX, STRIPE_LEVELS = 16, 20
ENCODERS = {
    "x264enc": "tune=zerolatency speed-preset=ultrafast key-int-max=30 bitrate=2000",
    "openh264enc": "gop-size=30 complexity=low",
}


def draw(now_ms: int) -> bytes:
    """Return a frame, I420, that shows the lowest 32 bits of a time."""
    luma, width = b"", WIDTH // COLUMNS
    for row in range(ROWS):
        line = b""
        for column in range(COLUMNS):
            bit = now_ms >> (31 - row * COLUMNS - column) & 1
            level = BRIGHT if bit else DARK
            levels = (level - STRIPE_LEVELS, level + STRIPE_LEVELS) if column % 2 else (level, level)
            line += b"".join(bytes([one]) * STRIPE_PX for one in levels) * (width // STRIPE_PX // 2)
        luma += line * (HEIGHT // ROWS)
    return luma + b"\x80" * (WIDTH * HEIGHT // 2)


def push_frames(source: Gst.Element) -> None:
    """Give a frame each 1/30 s until the pipeline takes no more."""
    due = time.monotonic()
    while True:
        frame = Gst.Buffer.new_wrapped(draw(time.monotonic_ns() // 1_000_000))
        if source.emit("push-buffer", frame) != Gst.FlowReturn.OK:
            return
        due = max(due + 1 / FPS, time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))


def serve(port: int, encoder: str, password: str) -> None:
    """Serve /camera until killed. encoder: a part of a pipeline."""
    server = GstRtspServer.RTSPServer.new()
    server.set_address("127.0.0.1")
    server.set_service(str(port))
    factory = GstRtspServer.RTSPMediaFactory.new()
    caps = f"video/x-raw,format=I420,width={WIDTH},height={HEIGHT},framerate={FPS}/1"
    factory.set_launch(
        f"( appsrc name=source is-live=true format=time do-timestamp=true caps={caps} "
        f"! {encoder} ! h264parse ! rtph264pay name=pay0 pt=96 config-interval=1 )"
    )
    factory.set_shared(True)

    def configure(_: object, media: GstRtspServer.RTSPMedia) -> None:
        source = media.get_element().get_by_name_recurse_up("source")
        threading.Thread(target=push_frames, args=(source,), daemon=True).start()

    factory.connect("media-configure", configure)
    if password:
        want_password(server, factory, password)
    server.get_mount_points().add_factory("/camera", factory)
    if not server.attach(None):
        sys.exit(f"port {port} is taken")
    print("ready", flush=True)
    GLib.MainLoop().run()


def want_password(server: GstRtspServer.RTSPServer, factory: GstRtspServer.RTSPMediaFactory, password: str) -> None:
    """Let in only the user `user` with that password."""
    auth, token = GstRtspServer.RTSPAuth.new(), GstRtspServer.RTSPToken.new()
    token.set_string(GstRtspServer.RTSP_TOKEN_MEDIA_FACTORY_ROLE, "user")
    auth.add_basic(GstRtspServer.RTSPAuth.make_basic("user", password), token)
    server.set_auth(auth)
    factory.add_role_from_structure(
        Gst.Structure.from_string("user, media.factory.access=true, media.factory.construct=true")[0]
    )


def main() -> None:
    """Serve, or only say whether that is possible."""
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--password", default="")
    parser.add_argument("--lookahead", action="store_true", help="x264 as it is by default, which holds frames back")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    Gst.init(None)
    encoder = next((name for name in ENCODERS if Gst.ElementFactory.find(name)), None)
    if encoder is None or not Gst.ElementFactory.find("rtph264pay") or not Gst.ElementFactory.find("h264parse"):
        sys.exit("no H.264 encoder or payloader of GStreamer")
    if not options.check:
        settings = "key-int-max=30 bitrate=2000" if options.lookahead and encoder == "x264enc" else ENCODERS[encoder]
        serve(options.port, f"{encoder} {settings}", options.password)


if __name__ == "__main__":
    main()
