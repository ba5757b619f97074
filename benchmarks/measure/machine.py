"""A description of the machine that the benchmark runs on."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import psutil

from benchmarks.measure.speed.meters import describe_meters, read_meters
from benchmarks.results.run import MachineFacts
from core.machine import cores, cpu_model, versions

PACKAGES = (
    "numpy",
    "opencv-python-headless",
    "onnxruntime-gpu",
    "onnxruntime",
    "openvino",
    "tensorrt",
    "tensorrt-rtx-cu13",
)


def describe_machine() -> MachineFacts:
    """Return processor, cores, memory, system and the versions of the packages that decide the speed."""
    return MachineFacts(
        name=device_name(),
        cpu=cpu_model(),
        cores=cores(),
        memory_gb=round(psutil.virtual_memory().total / 1e9, 1),
        system=f"{platform.system()} {platform.release()}",
        architecture=platform.machine(),
        python=platform.python_version(),
        packages=versions(PACKAGES),
        meters=describe_meters(read_meters()),
        # of other processes: a reader of the times must know whether the machine was busy
        load_average=tuple(round(load, 2) for load in os.getloadavg()),
    )


def device_name() -> str:
    """Return the name of the board, where the firmware has one (as on a Jetson), else of the processor."""
    # a device tree has the board of an ARM system, DMI that of a PC
    for path in ("/proc/device-tree/model", "/sys/devices/virtual/dmi/id/product_name"):
        try:
            if name := Path(path).read_text(encoding="utf-8", errors="ignore").strip("\0 \n"):
                return name
        except OSError:
            continue
    return cpu_model()
