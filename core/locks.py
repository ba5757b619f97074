"""Locks between processes: one command at a time writes a run, a bundle, production/ or a pack."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from core.errors import InputError


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Keep a folder for this process until the end of the block. Raises InputError while another process keeps it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _lock(descriptor, folder)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def locked(*paths: Path) -> Iterator[None]:
    """Keep paths, which need not exist yet, for this process until the end of the block.

    Raises InputError while another process keeps one of them. Reading needs no lock.
    """
    with ExitStack() as stack:
        for path in sorted({Path(os.path.realpath(path)) for path in paths}):
            stack.enter_context(_locked_path(path))
        yield


@contextmanager
def _locked_path(path: Path) -> Iterator[None]:
    """Keep one path by a hidden file beside it: the path itself is replaced, and a lock would go with the old one."""
    file = path.with_name(f".{path.name}.lock")
    try:
        descriptor = _open_locked(file, path)
    except OSError:  # a folder that cannot be written: whoever writes there is told by the write
        yield
        return
    try:
        yield
    finally:
        with suppress(OSError):
            file.unlink()  # before the lock ends: a file that another process has locked is never removed
        os.close(descriptor)


def _open_locked(file: Path, path: Path) -> int:
    while True:
        descriptor = os.open(file, os.O_RDONLY | os.O_CREAT, 0o666)
        try:
            _lock(descriptor, path)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), file.stat()):
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its holder removed it between the opening and the lock: that lock is of no file


def _lock(descriptor: int, path: Path) -> None:
    with suppress(OSError):  # some file systems on a network have no locks
        try:
            # the kernel releases the lock when the process ends, however it ends
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{path} is in use by another process: wait until it ends, or stop it") from None
