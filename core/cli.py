"""The command line of every package: one module a command."""

from __future__ import annotations

import argparse
import difflib
import importlib
import os
import pkgutil
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

from core.errors import (
    CheckError,
    DeviceError,
    InputError,
    _input_error,
)
from core.redact import public_text


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


def run_command(command: Callable[[], int | None]) -> int:
    """Run `command` and return its exit code; what a person can mend is one sentence on stderr."""
    try:
        return command() or 0
    except InputError as error:
        print(f"error: {public_text(str(error))}", file=sys.stderr)
        return 2
    except (CheckError, DeviceError) as error:
        print(f"failed: {public_text(str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped by Ctrl-C", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `... | head` closed our stdout: not an error of ours
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if sentence := _input_error(error):
            print(f"error: {public_text(str(sentence))}", file=sys.stderr)
            return 2
        # a fault in this program: its traceback helps to find it, and may quote what was typed
        print(public_text(traceback.format_exc()), end="", file=sys.stderr)
        return 1
