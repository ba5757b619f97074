"""Clock, temperature, power and energy, where the machine has a meter for them."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

RAILS = "/sys/bus/i2c/drivers/ina3221/*/hwmon/hwmon*/"
"""The power monitor of Jetson boards: in1..3 in millivolts, curr1..3 in milliamperes. Source: kernel, hwmon/ina3221."""

COUNTERS = "/sys/class/powercap/intel-rapl:?/energy_uj"
"""The packages' counters of microjoules (Intel and AMD), readable by root. Source: kernel, powercap."""


def read_joules() -> float | None:
    """Return the joules counted so far by the processor packages, or None where no counter can be read."""
    # a package has a counter of its own: a machine with two processors has two
    counted = []
    for file in Path("/").glob(COUNTERS.lstrip("/")):
        with suppress(OSError, ValueError):
            counted.append(int(file.read_text()) / 1e6)
    return sum(counted) if counted else None


def read_meters() -> dict[str, float]:
    """Return the current clock_mhz, temperature_c and power_w; those without a meter are left out."""
    # the last one wins: where there is a GPU, its clock and temperature stand in place of the processor's
    found = _cpu() | _jetson() | _nvidia()
    return {name: round(value, 3) for name, value in found.items()}


def describe_meters(meters: dict[str, float]) -> str:
    """Return the readings as text, with units; empty without readings."""
    units = {"clock_mhz": "MHz", "temperature_c": "°C", "power_w": "W"}
    return ", ".join(f"{value:g} {units[name]}" for name, value in meters.items())


def _cpu() -> dict[str, float]:
    found: dict[str, float] = {}
    with suppress(OSError, AttributeError, NotImplementedError):
        if (clock := psutil.cpu_freq()) and clock.current:
            found["clock_mhz"] = clock.current
        hot = [sensor.current for sensors in psutil.sensors_temperatures().values() for sensor in sensors]
        if hot:
            found["temperature_c"] = max(hot)  # the hottest sensor is the one that throttles
    return found


def _jetson() -> dict[str, float]:
    watts = 0.0
    for folder in Path("/").glob(RAILS.lstrip("/")):
        with suppress(OSError, ValueError):
            millivolts = int((folder / "in1_input").read_text())
            milliamperes = int((folder / "curr1_input").read_text())
            watts += millivolts * milliamperes / 1e6
    return {"power_w": watts} if watts else {}


def _nvidia() -> dict[str, float]:
    """Read the first GPU through NVIDIA's management library, where the package and a device are."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # without the package or a driver there is no meter
        return {}
    handle: Any = pynvml.nvmlDeviceGetHandleByIndex(0)
    return {
        "clock_mhz": float(pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM)),
        "temperature_c": float(pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU)),
        "power_w": pynvml.nvmlDeviceGetPowerUsage(handle) / 1000,  # NVML gives milliwatts
    }
