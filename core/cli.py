"""The command line of every package: one module a command."""

from __future__ import annotations

import argparse
import difflib
import importlib
import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from core.errors import CheckError, DeviceError, InputError, package_error, path_error
from core.log import HANDLER, set_up
from core.plugins import names_in

log = logging.getLogger(__name__)


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one sentence instead of a page of usage; `-v` and `--quiet` set the log."""

    def __init__(self, *args: Any, times: bool = False, **kwargs: Any) -> None:
        """times: True when the lines of the log carry the time."""
        super().__init__(*args, **kwargs)
        self._times = times
        self.register("type", Path, _path)  # for every option with type=Path
        self.register("type", None, _text)  # for every option without a type
        level = self.add_mutually_exclusive_group()
        add = partial(level.add_argument, dest="log_level", action="store_const")
        add("-v", "--verbose", const=logging.DEBUG, default=logging.INFO, help="log details, too")
        add("--quiet", const=logging.ERROR, help="log errors only")

    def parse_known_args(self, *args: Any, **kwargs: Any) -> Any:
        """Set up the log as the command line says."""
        options, rest = super().parse_known_args(*args, **kwargs)
        set_up(options.log_level, times=self._times)
        return options, rest

    def error(self, message: str) -> NoReturn:
        """Raise InputError. The value of an unknown option is left out, because it may be a secret."""
        start, _, words = message.partition("unrecognized arguments: ")
        if options := [word for word in words.split() if word.startswith("-")]:
            message = f"{start}unrecognized arguments: {' '.join(options)}"
        # argparse repeats --web-token=WORD as it was written
        message = re.sub(r"(--[\w-]+)=\S*", r"\1", message)
        raise InputError(f"{message}: see {self.prog} --help")


def _path(text: str) -> Path:
    """Return a path. An empty text, as of an unset variable, is refused: Path would take it for the current folder."""
    if not text:
        raise argparse.ArgumentTypeError("it is empty, give a path")
    return Path(text)


def _text(text: str) -> str:
    """Return a text. An empty one, as of an unset variable, is refused: it would be taken for an option not given."""
    if not text:
        raise argparse.ArgumentTypeError("it is empty, give a value or leave the option out")
    return text


def options_for(kind: Any, args: argparse.Namespace) -> dict[str, Any]:
    """Return the options of a command line whose `dest` is the name of a field of the dataclass `kind`."""
    return {item.name: getattr(args, item.name) for item in fields(kind) if item.name in args}


def dispatch(program: str, package: str, default: str | None = None) -> int:
    """Run the command named by the first argument (`default` when there is one); return the exit code."""

    def command() -> int | None:
        arguments = sys.argv[1:]
        # a command is typed with hyphens, its module cannot have any
        names = [name.replace("_", "-") for name in names_in(importlib.import_module(package).__path__)]
        if arguments and arguments[0] in names:
            name = arguments.pop(0)
        elif default is not None and arguments:
            name = default
            first = arguments[0]
            others = ", ".join(n for n in names if n != default)
            if first in {"-h", "--help"}:
                print(f"other commands (python -m {program} COMMAND --help): {others}\n")
            elif not first.startswith("-") and "/" not in first and not Path(first).exists():
                raise InputError(f"{first!r} is no folder and no command: give runs/NAME, or a command ({others})")
        elif not arguments or arguments[0] in {"-h", "--help"}:
            short = f"\n       python -m {program} runs/NAME ...  (the command {default})" if default else ""
            print(f"usage: python -m {program} COMMAND ...{short}\n")
            for name in names:
                print(f"  {name:12} {(_import_command(package, name).__doc__ or '').splitlines()[0]}")
            return 0
        else:
            near = difflib.get_close_matches(arguments[0], names, n=1, cutoff=0.0)
            raise InputError(f"{program} has no command {arguments[0]!r}: did you mean {near[0]}?")
        code: int | None = _import_command(package, name).main(arguments)
        return code

    return run_command(command)


def _import_command(package: str, name: str) -> Any:
    """Return the module of a command, whose name is written with hyphens on the command line."""
    return importlib.import_module(f"{package}.{name.replace('-', '_')}")


def run_command(command: Callable[[], int | None]) -> int:
    """Run `command` and return its exit code; an error that a person can correct is one sentence on stderr."""
    logging.getLogger().addHandler(HANDLER)  # an error can come before the command line is read
    _open_standard_streams()
    try:
        with _terminating_cleanly():
            code = command() or 0
        if sys.stdout is not None:
            sys.stdout.flush()  # a full disk is an error here, not a traceback at the end of the process
        return code
    except Terminated:
        log.critical("stopped by SIGTERM")
        return 128 + signal.SIGTERM
    except KeyboardInterrupt:
        log.critical("stopped by Ctrl-C")
        return 128 + signal.SIGINT
    except BrokenPipeError:  # `... | head` closed our stdout: not an error of ours
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        input_error = _input_error(error)
        expected = input_error or isinstance(error, (CheckError, DeviceError))
        if expected:
            log.critical(f"error: {input_error}" if input_error else f"failed: {error}")
        # the traceback is for faults of this program; for other errors only -v shows it
        log.log(logging.DEBUG if expected else logging.CRITICAL, "traceback:", exc_info=True)
        return 2 if input_error else 1


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived: all that is open is closed and temporary files are removed, as after Ctrl-C."""


@contextmanager
def _terminating_cleanly() -> Iterator[None]:
    """Raise Terminated at the first SIGTERM; a second one has its usual effect. Only the main thread gets signals."""
    process = os.getpid()

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        if os.getpid() != process:  # a forked worker has nothing to close, and would print a traceback
            os.kill(os.getpid(), number)
        raise Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def ending_native_calls(grace_s: float = 5.0) -> Iterator[None]:
    """End the process a while after a signal where a native call keeps Python from handling it.

    For a block that writes no files: nothing is closed or removed then.
    """
    if threading.current_thread() is not threading.main_thread():  # only the main thread gets signals
        yield
        return
    ended = threading.Event()
    readable, writable = os.pipe()
    os.set_blocking(writable, False)

    def watch() -> None:
        # the interpreter writes the number of a signal at once; its handler has to wait for the native call
        came = os.read(readable, 1)
        if came and not ended.wait(grace_s):
            log.critical(f"stopped by {signal.Signals(came[0]).name}, within a call that did not end")
            os._exit(128 + came[0])

    before = signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        signal.set_wakeup_fd(before)
        os.close(writable)
        watcher.join()
        os.close(readable)


def _open_standard_streams() -> None:
    """Open those of stdin, stdout and stderr that are closed: else the next opened file would get what is printed."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)


def _input_error(error: Exception) -> InputError | None:
    """Return the sentence for an error that a person can correct; None for a fault in this program."""
    if isinstance(error, InputError):
        return error
    if isinstance(error, OSError):
        return path_error(error, sys.argv[1:])
    return package_error(error) if isinstance(error, ModuleNotFoundError) else None
