"""`python -m training pack | train | bench | compare`: one module of `training/commands` each."""

import os
import sys

from core.cli import dispatch

LAUNCH = {
    # glibc gives large blocks back to the kernel after each use; keeping them is worth up to 2x on depthwise networks
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
    # its memory in pages of 2 MiB where the kernel gives them (glibc 2.35 on): 2 to 9% of a step
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    # OpenMP's threads spin at a barrier; when a neighbour holds the core of the one they wait for, a short spin makes
    # the step 4 to 6 times faster; when there is none, this one costs 1% beside a long one, and half as long 3%
    "GOMP_SPINCOUNT": "2000",
}
"""Variables that a library reads once, at the start of the process; what the environment says already stays."""

if __name__ == "__main__":
    if not LAUNCH.keys() <= os.environ.keys() and sys.argv[1:2] != ["pack"]:
        os.execve(sys.executable, sys.orig_argv, LAUNCH | os.environ)
    raise SystemExit(dispatch("training", "training.commands"))
