"""The files of an earlier run in --out: a new run moves them into a numbered folder there, or replaces them."""

from __future__ import annotations

import fcntl
import logging
from contextlib import suppress
from pathlib import Path

log = logging.getLogger(__name__)
JOURNAL = "decisions.jsonl"
KEPT = "earlier-"
"""The folder of an earlier run is this and a number; the highest is the newest."""


def make_room(out: Path, *, overwrite: bool) -> None:
    """Move the files of an earlier run to out/earlier-N, or remove them, and say so. Those of a live run stay."""
    files = [file for file in _files_in(out) if file.is_file()]  # no pipe or device, which holds nothing
    if not any(file.stat().st_size for file in files) or _is_live(out / JOURNAL):
        return
    if overwrite:
        for file in files:
            file.unlink()
        log.info(f"{out}: the earlier run in it is replaced")
        return
    numbers = [folder.name.removeprefix(KEPT) for folder in out.glob(f"{KEPT}*")]
    kept = out / f"{KEPT}{1 + max((int(number) for number in numbers if number.isdecimal()), default=0)}"
    kept.mkdir()
    for file in files:
        file.rename(kept / file.name)
    log.info(f"{out}: the earlier run in it is kept in {kept}; --overwrite would replace it")


def _files_in(out: Path) -> list[Path]:
    """Return the files that a run may leave; after a restart an overlay has a number."""
    return [out / JOURNAL, out / "summary.json", out / "overlay.mp4", *sorted(out.glob("overlay-*.mp4"))]


def _is_live(journal: Path) -> bool:
    """Return whether another runner writes the file, which keeps it locked."""
    with suppress(FileNotFoundError), journal.open("rb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
