"""Import rules that a static tool cannot see: every module imports where the packages it must not need are blocked.

The rules themselves stand once, as import-linter's contracts in pyproject.toml; `make lint` checks them.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {"core", "inference", "models", "training", "export", "benchmarks"}
RUNTIMES = {"onnxruntime", "tensorrt", "tensorrt_rtx", "openvino"}
HEAVY = {"torch", "torchvision", "timm", "onnx", *RUNTIMES}
MAY_IMPORT = {"core": set(), "inference": {"core"}, "benchmarks": {"core", "inference"}}

BLOCK_AND_IMPORT = """
import importlib, pkgutil, sys
name, banned = sys.argv[1], set(sys.argv[2].split(","))
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in banned:
            raise ModuleNotFoundError(f"{name} is blocked")
sys.meta_path.insert(0, Block())
package = importlib.import_module(name)
for module in pkgutil.walk_packages(package.__path__, f"{name}."):
    if not module.name.endswith("__main__") and ".peers" not in module.name:
        importlib.import_module(module.name)
"""


@pytest.mark.parametrize("package", sorted(MAY_IMPORT))
def test_every_module_imports_with_the_forbidden_packages_blocked(package):
    banned = HEAVY | PACKAGES - MAY_IMPORT[package] - {package}
    command = [sys.executable, "-c", BLOCK_AND_IMPORT, package, ",".join(sorted(banned))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["utils", "helpers", "common", "manager"])
def test_no_package_has_a_junk_drawer(name):
    assert not [file for package in PACKAGES for file in (ROOT / package).rglob(f"{name}.py")]
