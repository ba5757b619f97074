"""Files that are either whole or absent: atomic writes, canonical JSON, hashes."""

from __future__ import annotations

import ctypes
import errno
import glob
import hashlib
import json
import logging
import math
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from core.errors import InputError

log = logging.getLogger(__name__)

AT_FDCWD = -100
RENAME_EXCHANGE = 2
"""Constants of Linux's renameat2; with the first, a relative path is relative to the current folder."""


def fsync_path(path: Path) -> None:
    """Flush one file or folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _naming(path: Path, temporary: Path) -> Iterator[None]:
    """Make an OSError name `path` where it names the temporary file, or no file, as on a full disk."""
    try:
        yield
    except OSError as error:
        unnamed = error.filename is None and error.errno is not None
        if unnamed or str(error.filename).startswith(str(temporary)):
            error.filename = str(path)
        raise


def _remove_leftovers(path: Path) -> None:
    """Remove temporary files that killed processes left here for `path`; the name of each holds its process number."""
    put_back(path)
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        process = leftover.name.rsplit(".", 2)[1]
        if not process.isdigit() or Path("/proc", process).exists():
            continue
        if leftover.is_dir() and not leftover.is_symlink():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            with suppress(OSError):
                leftover.unlink()


def put_back(path: Path) -> None:
    """Put a folder back that a process moved aside to replace it, and was killed before the new one took its place."""
    path = Path(os.path.realpath(path))
    for old in path.parent.glob(f".{glob.escape(path.name)}.old.*.tmp"):
        process = old.name.rsplit(".", 2)[1]
        # after a restart our own number may be that of the killed process
        is_ours = process == str(os.getpid())
        if path.exists() or not (is_ours or (process.isdigit() and not Path("/proc", process).exists())):
            continue
        try:
            old.rename(path)
        except FileNotFoundError:  # another command was faster
            continue
        except OSError as error:
            raise InputError(
                f"{path} is missing, and its content, in {old}, cannot be moved back ({error.strerror}): move it"
            ) from None
        log.warning(f"{path} was missing, because a process was killed while it replaced it: the earlier one is back")


def put_back_inside(folder: Path) -> None:
    """Put back every folder that is missing in this one or in one of its folders, as `put_back` does."""
    for pattern in (".*.old.*.tmp", "*/.*.old.*.tmp"):
        for old in sorted(folder.glob(pattern)):
            put_back(old.with_name(old.name[1:].rsplit(".old.", 1)[0]))


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary file name beside `path`; on a clean exit it is synced and renamed to `path`."""
    if path.exists() and not (path.is_file() or path.is_dir()):  # the rename would replace a device, as /dev/full
        raise InputError(f"{path} is a device or a pipe: name a file")
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    # in the same folder, because a rename is atomic only within one file system
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with _naming(path, temporary):
            yield temporary
            fsync_path(temporary)
            os.replace(temporary, path)
            fsync_path(path.parent)  # the rename itself reaches the disk with the folder
    finally:
        with suppress(OSError):  # absent; or on a read-only disk, where this error would hide the first one
            temporary.unlink()


@contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside `path` that is removed at the end, or by the next command that writes `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    scratch = path.with_name(f".{path.name}.scratch.{os.getpid()}.tmp")
    shutil.rmtree(scratch, ignore_errors=True)  # a killed process may have had the same number
    try:
        with _naming(path, scratch):
            scratch.mkdir()
            yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder; on a clean exit it takes the place of `path`, or of the folder that it links to.

    At every moment `path` is the old folder or the new one. Where the disk cannot exchange two names, it is missing
    for a moment, and a process that is killed then leaves the old folder to `put_back`.
    """
    target = Path(os.path.realpath(path))
    if path.is_symlink() and not target.exists():
        raise InputError(f"{path} is a link to {target}, which does not exist: make that folder, or remove the link")
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(target)  # before the disk is asked for room: each may be as large as what is written
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    old = target.with_name(f".{target.name}.old.{os.getpid()}.tmp")
    for folder in (temporary, old):  # a killed process may have had the same number
        shutil.rmtree(folder, ignore_errors=True)
    try:
        with _naming(path, temporary):
            if target.exists() and not target.is_dir():  # it is someone's file: never moved away
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
            temporary.mkdir()
            yield temporary
            _sync(temporary)
            if target.exists() and not _exchange(temporary, target):
                os.replace(target, old)  # a folder that is not empty cannot be replaced by a rename
            if not target.exists():
                os.replace(temporary, target)
            fsync_path(target.parent)
    finally:
        if old.exists() and not target.exists():  # it was stopped between the two renames
            os.replace(old, target)
        for folder in (temporary, old):
            shutil.rmtree(folder, ignore_errors=True)


def _exchange(first: Path, second: Path) -> bool:
    """Exchange two names in one step. Return False where the C library, the kernel or the file system cannot."""
    library = ctypes.CDLL(None)
    if not hasattr(library, "renameat2"):
        return False
    return bool(library.renameat2(AT_FDCWD, os.fsencode(first), AT_FDCWD, os.fsencode(second), RENAME_EXCHANGE) == 0)


def _sync(folder: Path) -> None:
    """Flush a folder and its files to the disk."""
    # before the rename: after a power cut the new name must not lead to files without their content
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            fsync_path(file)
    fsync_path(folder)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path`, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as readable JSON, whole or not at all; NaN and infinity are refused."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def read_json(path: Path, hint: str = "write it again") -> Any:
    """Read a JSON file. Raises InputError naming the file when it is missing or not JSON."""
    try:
        text = path.read_text(encoding="utf-8")
        return json.loads(text, object_pairs_hook=_unique_keys, parse_float=_finite_float, parse_constant=_finite_float)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: {hint}") from None
    except (ValueError, OSError, RecursionError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            raise  # `path_error` has a sentence without the whole name
        raise InputError(f"{path} is not readable JSON ({error}): {hint}") from None


def _finite_float(text: str) -> float:
    """Return a number. Raises ValueError for NaN and what overflows: JSON has no such numbers, and none is written."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text:.20} is not a finite number")
    return number


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object. Raises ValueError where a key stands twice: json would drop the first value silently."""
    body = dict(pairs)
    if len(body) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!a} stands twice")
    return body


def read_object(path: Path, hint: str = "write it again", schema: int | None = None) -> dict[str, Any]:
    """Read a JSON object, of this schema where one is given. Raises InputError naming the file."""
    body = read_json(path, hint)
    if not isinstance(body, dict):
        raise InputError(f"{path} is not a JSON object: {hint}")
    if schema is not None and body.get("schema") != schema:
        raise InputError(f"{path} has schema {body.get('schema')!r}, this version reads {schema}: {hint}")
    return body


def read_sealed(path: Path, keys: Iterable[str], schema: int, hint: str) -> dict[str, Any]:
    """Read an object of exactly these keys, `schema`, and the `digest` of them all, which `sealed` wrote.

    Raises InputError naming the file and the key, or that it was changed after it was written.
    """
    body = read_object(path, hint, schema)
    expected = {"schema", *keys, "digest"}
    if missing := sorted(expected - set(body)):
        raise InputError(f"{path} lacks {', '.join(missing)}: {hint}")
    if unknown := sorted(set(body) - expected):
        raise InputError(f"{path} has the unknown keys {', '.join(unknown)}: {hint}")
    if body != sealed({name: value for name, value in body.items() if name != "digest"}):
        raise InputError(f"{path} was changed after it was written (its digest differs): {hint}")
    return body


def sealed(body: dict[str, Any]) -> dict[str, Any]:
    """Return an object with its `digest`, the sha256 of its canonical JSON, as its last key."""
    return {**body, "digest": sha256_of_json(body)}


def canonical_json(value: Any) -> bytes:
    """Return the JSON of `value` that is always the same bytes: sorted keys, no spaces, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def sha256_of_json(value: Any) -> str:
    """Return the sha256 of the canonical JSON of `value`, in hex."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def sha256_of_file(path: Path) -> str:
    """Return the sha256 of a file, in hex."""
    with path.open("rb") as stream:
        digest = hashlib.sha256()
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
