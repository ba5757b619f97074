"""The arrows of the house: which room may import which, and which heavy packages live where."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("inference", "models", "training", "export", "benchmarks")
MAY_IMPORT = {
    "inference": set(),
    "models": {"inference"},
    "training": {"models", "inference"},
    "export": {"models", "inference"},
    "benchmarks": {"inference"},
}
RUNTIMES = {"onnxruntime", "tensorrt", "tensorrt_rtx", "openvino"}
HEAVY = {"torch", "torchvision", "timm", "onnx", *RUNTIMES}
MAY_HOLD = {
    "inference": set(),
    "models": {"torch", "timm"},
    "training": {"torch", "torchvision"},
    "export": {"torch", "onnx", "onnxruntime", "tensorrt"},
    "benchmarks": set(),
}
FLOOR_PACKAGES = {"numpy", "cv2"}
# cuda-python is part of the TensorRT backend; the page's server lives in one file.
FLOOR_EXCEPTIONS = {"inference/backends": {*RUNTIMES, "cuda"}, "inference/page_server.py": {"waitress"}}

BLOCK_AND_IMPORT = """
import importlib, pkgutil, sys
room, banned = sys.argv[1], set(sys.argv[2].split(","))
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in banned:
            raise ModuleNotFoundError(f"{name} is blocked")
sys.meta_path.insert(0, Block())
package = importlib.import_module(room)
for module in pkgutil.walk_packages(package.__path__, f"{room}."):
    if not module.name.endswith("__main__") and ".peers" not in module.name:
        importlib.import_module(module.name)
"""


def files_of(room: str) -> list[Path]:
    return [file for file in sorted((ROOT / room).rglob("*.py")) if "peers" not in file.parts]


def imports_of(file: Path) -> set[str]:
    """Return the top-level packages a file imports anywhere, also inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            found.add((node.module or "").split(".")[0])
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_the_rooms_below_it(room):
    wrong = {str(f): bad for f in files_of(room) if (bad := imports_of(f) & set(ROOMS) - MAY_IMPORT[room] - {room})}
    assert not wrong


@pytest.mark.parametrize("room", ROOMS)
def test_heavy_packages_stay_in_their_rooms(room):
    wrong = {
        str(f): bad
        for f in files_of(room)
        if (bad := imports_of(f) & HEAVY - MAY_HOLD[room]) and not (f.parent.name == "backends" and bad <= RUNTIMES)
    }
    assert not wrong


def test_the_floor_needs_only_numpy_and_opencv():
    wrong = {}
    for file in files_of("inference"):
        name = str(file.relative_to(ROOT))
        allowed = {p for prefix, packages in FLOOR_EXCEPTIONS.items() if name.startswith(prefix) for p in packages}
        extra = imports_of(file) - set(sys.stdlib_module_names) - {"inference"} - FLOOR_PACKAGES - allowed
        if extra:
            wrong[name] = extra
    assert not wrong


@pytest.mark.parametrize("room", ["inference", "benchmarks"])
def test_every_module_imports_with_the_forbidden_packages_blocked(room):
    banned = (HEAVY | set(ROOMS)) - MAY_HOLD[room] - MAY_IMPORT[room] - {room}
    command = [sys.executable, "-c", BLOCK_AND_IMPORT, room, ",".join(sorted(banned))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_editor_is_told_the_same_arrows():
    for room in ROOMS:
        text = (ROOT / room / "ruff.toml").read_text()
        banned = {line.split('"')[1] for line in text.splitlines() if line.startswith('"')}
        assert banned == set(ROOMS) - MAY_IMPORT[room] - {room} | HEAVY - MAY_HOLD[room], room


def test_no_file_is_named_after_a_library():
    libraries = HEAVY - RUNTIMES | {"numpy", "cv2", "scipy", "sklearn", "jinja2", "supervision"}
    named = [str(f) for room in ROOMS for f in files_of(room) if f.stem in libraries and f.parent.name != "backends"]
    assert not named


@pytest.mark.parametrize("name", ["utils", "helpers", "common", "manager"])
def test_no_room_has_a_junk_drawer(name):
    assert not [f for room in ROOMS for f in files_of(room) if f.stem == name]
