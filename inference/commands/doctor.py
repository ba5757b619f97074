"""Report which backends, cameras and libraries this machine has, with a command for each that is missing."""

from __future__ import annotations

import json
import os
import platform
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from core.cli import Parser
from core.errors import InputError
from core.plugins import load_plugin, names_in

Row = dict[str, Any]
JETSON = Path("/etc/nv_tegra_release")
PCI = Path("/sys/bus/pci/devices")
NVIDIA = "0x10de"
ORT = "python -m inference run BUNDLE --backend ort"
"""The command that runs without a GPU."""
DRIVER = "sudo ubuntu-drivers install"
GPU_BACKENDS = ("trt", "ort_cuda")


def main(arguments: list[str]) -> None:
    """Print what is available, and one command for each part that is not."""
    parser = Parser(prog="python -m inference doctor", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args(arguments)
    rows = examine()
    if args.json:
        print(json.dumps(rows, indent=1))
        return
    width = max(len(row["part"]) for row in rows)
    for row in rows:
        hint = f"  -> {row['hint']}" if row["hint"] else ""
        print(f"{'ok' if row['available'] else '--'}  {row['part']:{width}}  {row['found']}{hint}")


def examine() -> list[Row]:
    """Return one row a part: {"part", "available", "found", "hint"}."""
    gpu = _cuda_device()
    software = [_python(), *_machine(), *_libraries(), *_backends(gpu), *_broken_plug_ins()]
    return [*software, gpu, *_cameras(), *_opencv(), _page()]


def _row(part: str, available: bool, found: str, hint: str = "") -> Row:
    return {"part": part, "available": available, "found": found, "hint": "" if available else hint}


def _python() -> Row:
    able = sys.version_info >= (3, 10)
    found = f"{platform.python_version()} on {platform.machine()}"
    return _row("python", able, found, "sudo apt install python3.11 python3.11-venv")


def _machine() -> list[Row]:
    from core.machine import cores, cpu_model

    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    rows = [_row("machine", True, f"{cpu_model()}, {cores()} cores for this process, {pages:.1f} GB")]
    if JETSON.exists():
        # its first line names the release of L4T
        release = JETSON.read_text(encoding="utf-8", errors="replace").splitlines()[0]
        rows.append(_row("jetson", True, release[:60]))
    return rows


def _libraries() -> list[Row]:
    import cv2
    import numpy as np

    return [_row("numpy", True, np.__version__), _row("opencv", True, cv2.__version__)]


def _backends(gpu: Row) -> list[Row]:
    from inference import backends

    # the packages that the backends name are not made for a Jetson
    on_jetson = {"trt": "sudo apt install nvidia-jetpack", "ort_cuda": ORT} if JETSON.exists() else {}
    rows = []
    for name in backends.names():
        availability = backends.availability(name)
        found = availability.version if availability.available else availability.reason
        if not availability.available and availability.version:
            found = f"{availability.version}, but {availability.reason}"
        hint = on_jetson.get(name, availability.hint)
        # without a card or its driver no package helps
        if name in GPU_BACKENDS and gpu["hint"] in (ORT, DRIVER):
            found, hint = f"{gpu['found']}; {found}", gpu["hint"]
        rows.append(_row(f"backend {name}", availability.available, found, hint))
    return rows


def _broken_plug_ins() -> list[Row]:
    """Return a row for each source, detector layout and sink that does not load; those that do are not listed."""
    from inference import detectors, sinks, sources

    rows = []
    for kind in (sources, detectors, sinks):
        for name in names_in(kind.__path__):
            try:
                load_plugin(kind.__name__, name, kind.PARTS)
            except (InputError, ModuleNotFoundError) as error:
                reason, _, hint = str(error).rpartition(": ")
                rows.append(_row(f"{kind.__name__.rpartition('.')[2]} {name}", False, reason, hint))
    return rows


def _cuda_device() -> Row:
    """Return which CUDA device there is, else whether what is missing is the card, its driver or the binding."""
    from core.errors import DeviceError
    from inference import cuda_device

    try:
        device = cuda_device.device()
    except (InputError, DeviceError) as error:
        reason = str(error).split(": ", 1)[-1]
    else:
        return _row("CUDA device", True, f"{device.name}, sm_{device.sm}, {device.cuda}")
    if not JETSON.exists() and not _has_nvidia_card():
        return _row("CUDA device", False, "no NVIDIA card in this machine", ORT)
    # a Jetson's GPU is no PCI device, and its driver comes with the system
    if not Path("/dev/nvidiactl").exists() and not JETSON.exists():
        return _row("CUDA device", False, "a card, but no driver for it", DRIVER)
    hint = "pip install cuda-python" if "not installed" in reason else "nvidia-smi"
    return _row("CUDA device", False, reason, hint)


def _has_nvidia_card() -> bool:
    vendors = [file.read_text().strip() for file in PCI.glob("*/vendor")]
    return NVIDIA in vendors


def _cameras() -> list[Row]:
    rows = [_camera(device) for device in sorted(Path("/dev").glob("video*"))]
    hint = "python -m inference run BUNDLE --source synthetic://"
    return rows or [_row("camera", False, "no /dev/video* here: plug one in", hint)]


def _camera(device: Path) -> Row:
    from inference.capture.v4l2 import query_node

    part = f"camera {device}"
    if not os.access(device, os.R_OK | os.W_OK):
        return _row(part, False, "this user may not open it", "sudo usermod -aG video $USER")
    try:
        node = query_node(device)
    except OSError as error:
        return _row(part, False, f"it does not answer ({error.strerror})", f"sudo fuser -v {device}")
    if not node.formats:  # no fault: a USB camera has a second node, for metadata
        return _row(part, True, f"{node.card}: no pictures on this node")
    return _row(part, True, f"{node.card} ({node.driver}): {' '.join(node.formats)}")


def _opencv() -> list[Row]:
    """Return what this OpenCV was built with; each kind of source needs one of these parts."""
    from inference.capture.ffmpeg import built_with

    system = "sudo apt install python3-opencv && python3 -m venv --system-site-packages .venv"
    wheel = "pip install --force-reinstall opencv-python-headless"
    parts = (
        ("FFmpeg in OpenCV", "FFMPEG:", "videos and streams such as rtsp:// need it", wheel),
        ("V4L2 in OpenCV", "v4l/v4l2:", "/dev/video* needs it", wheel),
        ("GStreamer in OpenCV", "GStreamer:", "csi:// needs it", system),
    )
    rows = []
    for part, key, need, hint in parts:
        value = built_with(key)
        available = value.startswith("YES")
        rows.append(_row(part, available, value if available else f"not built in; {need}", hint))
    return rows


def _page() -> Row:
    """Return whether the web page's server is installed."""
    page = find_spec("waitress") is not None
    return _row("web page", page, "waitress" if page else "its server is not installed", "pip install waitress")
