"""The commands of a room: one module each, with `main(arguments) -> int | None` and a one-line docstring."""

from __future__ import annotations

import argparse
import difflib
import importlib
import pkgutil
import sys
from typing import NoReturn

from inference.errors import InputError, run_command


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaint is one sentence, not a page of usage."""

    def error(self, message: str) -> NoReturn:
        """Raise InputError."""
        raise InputError(f"{message}: see {self.prog} --help")


def dispatch(room: str, package: str, default: str | None = None) -> int:
    """Run the command named by the first argument (`default` when there is one); return the exit code."""

    def command() -> int | None:
        arguments = sys.argv[1:]
        names = sorted(m.name for m in pkgutil.iter_modules(importlib.import_module(package).__path__))
        if arguments and arguments[0] in names:
            name = arguments.pop(0)
        elif default is not None and arguments:
            name = default
        elif not arguments or arguments[0] in {"-h", "--help"}:
            print(f"usage: python -m {room} COMMAND ...\n")
            for name in names:
                print(f"  {name:10} {(importlib.import_module(f'{package}.{name}').__doc__ or '').splitlines()[0]}")
            return 0
        else:
            near = difflib.get_close_matches(arguments[0], names, n=1, cutoff=0.0)
            raise InputError(f"{room} has no command {arguments[0]!r}: did you mean {near[0]}?")
        code: int | None = importlib.import_module(f"{package}.{name}").main(arguments)
        return code

    return run_command(command)
