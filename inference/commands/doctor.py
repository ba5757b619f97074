"""Say what is here: backends, cameras, GStreamer, versions, and the mend for what is missing."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any

from inference.commands import Parser


def main(arguments: list[str]) -> None:
    """Print what is here and the one command that mends each thing missing."""
    parser = Parser(prog="python -m inference doctor", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    rows = examine()
    if options.json:
        print(json.dumps(rows, indent=1))
        return
    for row in rows:
        mend = f"  -> {row['mend']}" if row["mend"] else ""
        print(f"{'ok' if row['here'] else '--'}  {row['part']:22} {row['found']}{mend}")


def examine() -> list[dict[str, Any]]:
    """Return one row a part: {"part", "here", "found", "mend"}."""
    return [_python(), *_libraries(), *_backends(), *_cameras(), _gstreamer()]


def _row(part: str, here: bool, found: str, mend: str = "") -> dict[str, Any]:
    return {"part": part, "here": here, "found": found, "mend": "" if here else mend}


def _python() -> dict[str, Any]:
    cores = len(os.sched_getaffinity(0))
    return _row("python", True, f"{platform.python_version()} on {platform.machine()}, {cores} cores")


def _libraries() -> list[dict[str, Any]]:
    import cv2
    import numpy as np

    return [_row("numpy", True, np.__version__), _row("opencv", True, cv2.__version__)]


def _backends() -> list[dict[str, Any]]:
    from inference import backends

    rows = []
    for name in backends.names():
        presence = backends.find(name).presence()
        rows.append(
            _row(
                f"backend {name}", presence.here, presence.version if presence.here else presence.reason, presence.mend
            )
        )
    return rows


def _cameras() -> list[dict[str, Any]]:
    rows = []
    for device in sorted(Path("/dev").glob("video*")):
        name = Path("/sys/class/video4linux") / device.name / "name"
        label = name.read_text().strip() if name.exists() else "unnamed"
        able = os.access(device, os.R_OK | os.W_OK)
        found = label if able else f"{label}, but this user may not open it"
        rows.append(_row(f"camera {device}", able, found, "sudo usermod -aG video $USER"))
    mend = "plug a camera in, or run on --source synthetic://"
    return rows or [_row("camera", False, "no /dev/video* here", mend)]


def _gstreamer() -> dict[str, Any]:
    import cv2

    line = next((x for x in cv2.getBuildInformation().splitlines() if "GStreamer:" in x), "GStreamer: NO")
    here = "YES" in line
    mend = "only csi:// needs it: use the OpenCV of JetPack or of the distribution (sudo apt install python3-opencv)"
    return _row("GStreamer in OpenCV", here, line.split(":", 1)[1].strip().split(" ")[0], mend)
