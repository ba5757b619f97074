"""Plug-ins are found by name: one file, or one folder, each in the package of its kind."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterable


def names_in(package_path: Iterable[str]) -> list[str]:
    """Return the plug-ins of a package, sorted. package_path: the package's `__path__`."""
    return sorted(module.name for module in pkgutil.iter_modules(package_path))
