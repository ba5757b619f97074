"""Plug-ins are found by name: one file, or one folder, each in the package of its kind. Each owns its typed options."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from types import ModuleType
from typing import Any, TypeVar

from core.errors import InputError, package_error


def names_in(package_path: Iterable[str]) -> list[str]:
    """Return the plug-ins of a package, sorted. package_path: the package's `__path__`."""
    return sorted(module.name for module in pkgutil.iter_modules(package_path))


def load_plugin(package: str, name: str) -> ModuleType:
    """Import a plug-in. Raises InputError when its code fails; a missing package stays a ModuleNotFoundError."""
    try:
        return importlib.import_module(f"{package}.{name}")
    except (Exception, SystemExit) as error:  # it runs whatever code it likes
        if isinstance(error, ModuleNotFoundError) and package_error(error):  # nothing is wrong with its file
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(
            f"the plug-in {package}.{name} does not load ({reason}): correct or remove its file"
        ) from error


@dataclass(frozen=True)
class PluginOptions:
    """The options of a plug-in that has none. Others add fields, each with a default and a docstring below it."""


OptionsType = TypeVar("OptionsType", bound=PluginOptions)

OPTION_TYPES: dict[str, tuple[str, Callable[[str], Any]]] = {
    "int": ("a whole number", int),
    "int | None": ("a whole number", int),
    "bool": ("true or false", lambda text: {"true": True, "false": False}[text.lower()]),
    "tuple[int, ...]": ("whole numbers with commas between", lambda text: tuple(map(int, text.split(",")))),
}
"""The types that an option may have: in words, and how its text is read."""


def parse_options(kind: type[OptionsType], texts: Iterable[str], owner: str) -> OptionsType:
    """Return the options that `name=value` texts ask for, the others at their defaults. owner: who has them, in words.

    Raises InputError that lists the options there are, or says what a value must be.
    """
    types, values = {item.name: str(item.type) for item in fields(kind)}, dict[str, Any]()
    for text in texts:
        name, _, value = text.partition("=")
        if name not in types:
            choice = f"choose from {', '.join(types)}" if types else "it has none"
            raise InputError(f"{owner} has no option {name!r}: {choice}")
        if name in values:
            raise InputError(f"{owner}: the option {name} is given twice")
        # annotations are texts here, as `from __future__ import annotations` leaves them
        what, read = OPTION_TYPES[types[name]]
        try:
            values[name] = read(value)
        except (ValueError, KeyError):
            raise InputError(f"{owner}: the option {name} is {value!r}, give {what}") from None
    return kind(**values)


def describe_options(kind: type[PluginOptions]) -> list[str]:
    """Return a line for each option: its name, its default, its meaning from the docstring below the field."""
    # from the source, because Python keeps no docstring of a field
    (declared,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(declared, ast.ClassDef)
    lines = []
    for item, below in zip(declared.body, declared.body[1:], strict=False):
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name) and isinstance(below, ast.Expr):
            text = " ".join(ast.literal_eval(below.value).split())
            lines.append(f"{item.target.id}={_format_default(getattr(kind, item.target.id))}  {text}")
    return lines


def _format_default(default: Any) -> str:
    """Return a default as it is written on a command line; one that the machine decides is not written."""
    if isinstance(default, tuple):
        return ",".join(map(str, default))
    return "" if default is None else str(default).lower()
