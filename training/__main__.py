"""The commands `python -m training pack | train | bench | compare`, each a module of `training/commands`.

glibc and OpenMP read LAUNCH's variables once, at the start of a process, so this one starts itself again with them.
"""

import os
import sys

from core.cli import dispatch

LAUNCH = {
    # glibc gives large blocks back to the kernel after each use; keeping them is worth up to 2x on depthwise networks
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
    # memory in pages of 2 MiB where the kernel gives them (glibc 2.35 on) saves 2 to 9% of a step
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    # OpenMP's threads spin at a barrier. When another process holds the core of the thread that they wait for, a short
    # spin makes the step 4 to 6 times faster; on an idle machine this one costs 1% against a long one, half of it 3%
    "GOMP_SPINCOUNT": "2000",
}
"""Environment variables for libraries; one that is set already keeps its value."""

if __name__ == "__main__":
    if not LAUNCH.keys() <= os.environ.keys() and sys.argv[1:2] != ["pack"]:
        os.execve(sys.executable, sys.orig_argv, LAUNCH | os.environ)
    raise SystemExit(dispatch("training", "training.commands"))
