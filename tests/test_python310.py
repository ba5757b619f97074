"""What the car carries, core and inference, runs on Python 3.10, which JetPack 6 has."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(file for package in ("core", "inference") for file in (ROOT / package).rglob("*.py"))

IMPORT_STANDARD_LIBRARY_NAMES = """
import ast, importlib.util, sys
assert sys.version_info[:2] == (3, 10)
for file in sys.argv[1:]:
    tree = ast.parse(open(file, encoding="utf-8").read(), file)
    compile(tree, file, "exec")
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] in sys.stdlib_module_names:
            for alias in node.names:
                module = importlib.import_module(node.module)
                known = hasattr(module, alias.name) or importlib.util.find_spec(f"{node.module}.{alias.name}")
                assert known, (file, node.module, alias.name)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] in sys.stdlib_module_names:
                    importlib.import_module(alias.name)
"""


def python310() -> str | None:
    """Return a Python 3.10 of this machine."""
    homes = [Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")), Path.home() / ".local/share/uv/python"]
    for home in homes:
        for found in sorted([*home.glob("versions/3.10.*/bin/python"), *home.glob("cpython-3.10*/bin/python3")]):
            return str(found)
    return shutil.which("python3.10")


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_the_syntax_is_that_of_3_10(file):
    ast.parse(file.read_text(encoding="utf-8"), feature_version=(3, 10))


@pytest.mark.skipif(python310() is None, reason="there is no Python 3.10 on this machine")
def test_python_3_10_compiles_the_files_and_has_all_that_they_take_from_the_standard_library():
    command = [python310(), "-I", "-c", IMPORT_STANDARD_LIBRARY_NAMES, *map(str, FILES)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(python310() is None, reason="there is no Python 3.10 on this machine")
def test_python_3_10_imports_every_module():
    packages = subprocess.run([python310(), "-c", "import numpy, cv2"], capture_output=True, check=False)
    if packages.returncode:
        pytest.skip("this machine's Python 3.10 has no numpy and OpenCV")
    names = [".".join(f.relative_to(ROOT).with_suffix("").parts) for f in FILES if f.name != "__main__.py"]
    code = f"import importlib\nfor name in {names!r}: importlib.import_module(name)"
    done = subprocess.run([python310(), "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
