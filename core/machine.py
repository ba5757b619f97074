"""Facts of this process that the standard library does not give: its start, its memory."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterable
from pathlib import Path


def ms_since_start(pid: int = 0) -> float:
    """Return the milliseconds since the kernel started a process, 0 for this one, to 10 ms.

    Source: proc(5), field starttime.
    """
    # the name, in parentheses, may itself hold blanks and parentheses: fields are counted after the last one
    after_name = Path(f"/proc/{pid or 'self'}/stat").read_text().rpartition(")")[2].split()
    started_s = int(after_name[19]) / os.sysconf("SC_CLK_TCK")
    return (time.clock_gettime(time.CLOCK_BOOTTIME) - started_s) * 1000


def resident_mb() -> float:
    """Return this process's resident memory in MB (10^6 bytes). Source: proc(5), statm."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def threads() -> int:
    """Return how many threads this process has."""
    return sum(1 for _ in Path("/proc/self/task").iterdir())


def descriptors() -> int:
    """Return how many files this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def cores() -> int:
    """Return how many cores this process may use."""
    # fewer than the machine has where taskset or a container pins this process
    return len(os.sched_getaffinity(0))


def cpu_model() -> str:
    """Return the processor's name as the kernel tells it, else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    # x86 has a line "model name"; kernels for ARM may have "Hardware" in its place, or neither
    telling = [line for line in lines if line.lower().startswith(("model name", "hardware"))]
    named = [line.split(":", 1)[1].strip() for line in telling]
    return named[0] if named else platform.processor() or platform.machine()


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the version of each of these packages that is installed."""
    from importlib import metadata  # not at the top: the runner starts 10 ms sooner without it

    found = {}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
