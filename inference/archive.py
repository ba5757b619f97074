"""Unpack an archive for the device: nothing leaves the folder, nothing is a link, every byte is the one packed."""

from __future__ import annotations

import hashlib
import tarfile
import zlib
from pathlib import Path, PurePosixPath

from inference.errors import InputError
from inference.files import replacing_folder

SUMS = "SHA256SUMS"
LIMIT_BYTES = 2 << 30
"""An archive that claims more is refused before anything is written."""
MEND = "pack it again with `python -m export package`"


def unpack(archive: Path, target: Path) -> int:
    """Unpack `archive` into `target`, whole or not at all; return the number of files.

    Raises InputError naming the member that leaves the folder, is no plain file, is too large, or is not as summed.
    """
    if target.exists():
        raise InputError(f"{target} exists already: name a new folder")
    try:
        with tarfile.open(archive, "r:gz") as packed, replacing_folder(target) as folder:
            members = packed.getmembers()
            names = [_checked_name(archive, member) for member in members]
            if sum(member.size for member in members) > LIMIT_BYTES:
                raise InputError(f"{archive} claims more than {LIMIT_BYTES} bytes: {MEND}")
            for member, name in zip(members, names, strict=True):
                _write(packed, member, folder / name)
            _check_sums(archive, folder, names)
    except FileNotFoundError:
        raise InputError(f"{archive} does not exist: {MEND}") from None
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise InputError(f"{archive} is not a whole archive ({str(error)[:120]}): {MEND}") from None
    return len(names)


def _checked_name(archive: Path, member: tarfile.TarInfo) -> str:
    """Return a member's path below the one top folder."""
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or len(path.parts) < 2 or "\\" in member.name:
        raise InputError(f"{archive}: the member {member.name!r} leaves the folder: {MEND}")
    if not member.isreg():
        raise InputError(f"{archive}: the member {member.name!r} is not a plain file: {MEND}")
    return str(PurePosixPath(*path.parts[1:]))


def _write(packed: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    stream = packed.extractfile(member)
    assert stream is not None
    with path.open("wb") as out:
        while block := stream.read(1 << 20):
            out.write(block)
    path.chmod(0o755 if member.mode & 0o100 else 0o644)


def _check_sums(archive: Path, folder: Path, names: list[str]) -> None:
    if SUMS not in names:
        raise InputError(f"{archive} holds no {SUMS}: {MEND}")
    lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    expected = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    if set(expected) != set(names) - {SUMS} or len(names) != len(set(names)):
        odd = sorted(set(expected) ^ (set(names) - {SUMS})) or ["a member that stands in it twice"]
        raise InputError(f"{archive}: {odd[0]} is not what {SUMS} lists: {MEND}")
    for name, digest in expected.items():
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != digest:
            raise InputError(f"{archive}: {name} is not the file that was packed (its sha256 differs): {MEND}")
