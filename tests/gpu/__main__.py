"""`python -m tests.gpu`, or `make gpu-check`: check on a GPU what needs one."""

import sys

from core.cli import run_command
from tests.gpu.check import main

if __name__ == "__main__":
    raise SystemExit(run_command(lambda: main(sys.argv[1:])))
