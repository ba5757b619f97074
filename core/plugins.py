"""Plug-ins are found by name: one file, or one folder, each in the package of its kind. Each owns its typed options."""

from __future__ import annotations

import ast
import importlib
import inspect
import logging
import pkgutil
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from functools import cache
from types import ModuleType
from typing import Any, TypeVar

from core.errors import InputError, package_error

log = logging.getLogger(__name__)


def names_in(package_path: Iterable[str]) -> list[str]:
    """Return the plug-ins of a package, sorted. package_path: the package's `__path__`."""
    return sorted(module.name for module in pkgutil.iter_modules(package_path))


def load_plugin(package: str, name: str, parts: Iterable[str] = ()) -> ModuleType:
    """Import a plug-in. parts: what a module of its kind has.

    Raises InputError when its code fails or lacks a part; a missing package stays a ModuleNotFoundError.
    """
    try:
        module = importlib.import_module(f"{package}.{name}")
    except (Exception, SystemExit) as error:  # its code may raise anything, or exit
        if isinstance(error, ModuleNotFoundError) and package_error(error):  # nothing is wrong with its file
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(
            f"the plug-in {package}.{name} does not load ({reason}): correct or remove its file"
        ) from error
    for part in parts:
        if not hasattr(module, part):
            raise InputError(f"the plug-in {module.__name__} has no {part}: correct or remove its file")
    return module


def load_usable(
    package: str, names: Iterable[str], parts: Iterable[str], is_wanted: Callable[[str], bool] = lambda name: False
) -> dict[str, ModuleType]:
    """Import several plug-ins of a kind; return those that load. A warning names each broken one, once.

    is_wanted: whether the command may have asked for this plug-in; then its error is raised.
    """
    found = dict[str, ModuleType]()
    for name in names:
        try:
            found[name] = load_plugin(package, name, parts)
        except (InputError, ModuleNotFoundError) as error:
            if is_wanted(name):
                raise
            if isinstance(error, InputError):  # nothing is wrong with a plug-in whose package is missing here
                _warn_once(str(error))
    return found


@cache
def _warn_once(sentence: str) -> None:
    log.warning(f"{sentence}; the others go on without it")


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
    """Return the options that `name=value` texts ask for, the others at their defaults. owner: what has them, in words.

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
