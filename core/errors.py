"""The errors that end a command with one sentence for a person; core/cli.py turns them into exit codes."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from core.redact import public_text


class InputError(Exception):
    """The input or the command is wrong: one sentence that names the file and the hint. Exit code 2."""


class CheckError(Exception):
    """A check of ours failed (parity, gate, self-test): one sentence. Exit code 1."""


class DeviceError(Exception):
    """A runtime or a device failed while it was used: one sentence that says what to look at. Exit code 1."""


def as_device_error(error: BaseException, what: str) -> DeviceError:
    """Return the failure of `what` as one sentence; an error of ours is a sentence already."""
    ours = isinstance(error, (InputError, CheckError, DeviceError))
    sentence = str(error) if ours else f"{what} failed ({type(error).__name__}: {error}): start it again"
    return DeviceError(" ".join(public_text(sentence).split()))


def check_positive(**values: float) -> None:
    """Raise InputError naming the first value that is no finite number over 0."""
    for name, value in values.items():
        if not 0 < value < float("inf"):
            raise InputError(f"{name} is {value!r:.40}: give a number over 0")


def check_number(name: str, value: Any, low: float, high: float, *, whole: bool = False) -> None:
    """Raise InputError naming a value that is no number of this range. whole: an integer is wanted."""
    kinds = int if whole else (int, float)
    # a bool is an int in Python; NaN fails the comparison
    if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
        raise InputError(f"{name} is {value!r:.40}: give a {'whole ' if whole else ''}number from {low:g} to {high:g}")


def check_threads(threads: int | None) -> None:
    """Raise InputError unless the number of threads is None or from 1 to 1024."""
    if threads is not None:
        check_number("threads", threads, 1, 1024, whole=True)


def path_error(error: OSError, arguments: Iterable[str]) -> InputError | None:
    """Return the sentence for an OSError at, inside or above a path that stands in `arguments`; None for any other.

    An error without a path comes from stdout: code that writes files adds their path.
    """
    full = error.errno in {errno.ENOSPC, errno.EDQUOT}
    if error.filename is None:
        return InputError("the disk that the output goes to is full: make room there") if full else None
    if error.errno == errno.ENAMETOOLONG:  # also of a path that stands in a file
        name = os.fsdecode(error.filename)
        return InputError(
            f"{name:.60}... is no path ({len(name)} characters): the name of a file or folder is too long"
        )
    failed = Path(os.fsdecode(error.filename)).resolve()
    # --out=PATH and PATH alike
    values = (text.partition("=")[2] if text.startswith("-") else text for text in arguments)
    for named in (Path(value).resolve() for value in values if value):
        # inside it, such as --out/x, or above it, as where a folder on the way cannot be made
        if failed.is_relative_to(named) or named.is_relative_to(failed):
            hint = "make room there, or name another path" if full else "name another path, or give access to this one"
            no_folder = isinstance(error, FileExistsError | NotADirectoryError)
            reason = "a file stands where a folder is needed" if no_folder else error.strerror
            return InputError(f"{error.filename} cannot be used ({reason}): {hint}")
    return None


def package_error(error: ModuleNotFoundError) -> InputError | None:
    """Return the error for a package that is not installed; None where it is, and lacks the module."""
    package = (error.name or "").split(".")[0]
    if not package or find_spec(package):
        return None
    hint = "install it, or use the .venv that `make setup` makes"
    return InputError(f"{sys.executable} lacks the package {package}, which this command needs: {hint}")
