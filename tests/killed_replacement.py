"""Replace a folder on a disk that cannot exchange two names, and die by SIGKILL between the two renames."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

CODE = """
import os, signal, sys; from pathlib import Path; from core import files
files._exchange, replace = lambda *_: False, os.replace
def replace_and_die(source, target):
    replace(source, target)
    os.kill(os.getpid(), signal.SIGKILL)
os.replace = replace_and_die
with files.replacing_folder(Path(sys.argv[1])) as folder:
    (folder / "a").write_text("new")
"""


def kill_between_renames(path: Path) -> None:
    """Leave `path` as a killed process does: missing, with its content in a folder beside it."""
    done = subprocess.run([sys.executable, "-c", CODE, str(path)], cwd=Path(__file__).parents[1], check=False)
    assert (done.returncode, path.exists()) == (-signal.SIGKILL, False)
