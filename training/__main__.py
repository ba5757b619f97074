"""The commands `python -m training pack | train | bench | compare`, each a module of `training/commands`.

glibc and OpenMP read the variables of LAUNCH once, when a process starts, so this one starts itself again with them.
"""

import os
import sys

from core.cli import dispatch

LAUNCH = {
    # glibc returns large blocks to the kernel after each use; keeping them gives up to 2x on depthwise networks
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
    # memory in pages of 2 MiB where the kernel gives them (glibc 2.35 on) saves 2 to 9% of a step
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    # OpenMP's threads spin at a barrier. When another process holds the core of the thread that they wait for, a short
    # spin makes a step 4 to 6 times faster. On an idle machine 2000 costs 1% against a long spin, and 1000 costs 3%
    "GOMP_SPINCOUNT": "2000",
}
"""Environment variables for libraries; a variable that is set already keeps its value."""

if __name__ == "__main__":
    # pack trains nothing, and would only start twice
    if not LAUNCH.keys() <= os.environ.keys() and sys.argv[1:2] != ["pack"]:
        os.execve(sys.executable, sys.orig_argv, LAUNCH | os.environ)
    raise SystemExit(dispatch("training", "training.commands"))
