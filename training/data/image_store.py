"""The image store: the image files of a pack while it is written, in any order of rows, by several processes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from core.data.pack import open_images, shard_name
from core.errors import InputError
from core.geometry.frame import Bytes

HEADER_BYTES = 128
"""The length of an NPY header. numpy pads it to a multiple of 64, whatever the number of rows."""
SHARD_BYTES = 4 << 30
"""The largest file. File systems and object stores have limits, and an interrupted copy resumes file by file."""


@dataclass(frozen=True)
class ImageStore:
    """Image rows in a folder: one images.npy, or shards of `shard_rows` rows."""

    folder: str
    rows: int
    size_px: int
    shard_rows: int | None

    @property
    def row_bytes(self) -> int:
        """The size of a row."""
        return self.size_px**2 * 3

    def create(self) -> None:
        """Create the files, empty. Raises InputError when the disk is too small."""
        # asked now: the files are sparse, so a disk that is too small would be full only in the middle of decoding
        needed = self.rows * self.row_bytes
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise InputError(
                f"{Path(self.folder).parent} has {free / 1e6:,.1f} MB free, the pack needs {needed / 1e6:,.1f} MB: "
                "make room there, or name another --out"
            )
        for file, n in self._files():
            self._set_rows(file, n)

    @contextmanager
    def writer(self) -> Iterator[Callable[[int, Bytes], None]]:
        """Yield a function that writes a row, uint8 (S, S, 3); several processes may write at once."""
        open_files: dict[Path, int] = {}

        def write(row: int, image: Bytes) -> None:
            file, position = self._file_and_row(row)
            if file not in open_files:
                open_files[file] = os.open(file, os.O_WRONLY)
            # pwrite has no file position, so that several processes and threads may write to one file
            os.pwrite(open_files[file], np.ascontiguousarray(image).data, HEADER_BYTES + position * self.row_bytes)

        try:
            yield write
        finally:
            for descriptor in open_files.values():
                os.close(descriptor)

    def open(self) -> Bytes:
        """Map the rows, read-only."""
        return open_images(Path(self.folder), self.rows, self.size_px, self.shard_rows)

    def arrange(self, rows: Sequence[int]) -> ImageStore:
        """Make row `rows[i]` row i, in place, and cut the files to `len(rows)` rows. `rows` names no row twice."""
        # rejected rows go to the end, where the files are cut
        dropped = np.setdiff1d(np.arange(self.rows), rows)
        self._permute(np.append(np.asarray(rows, np.int64), dropped))
        smaller = replace(self, rows=len(rows))
        wanted = dict(smaller._files())
        for file, _ in self._files():
            if file in wanted:
                self._set_rows(file, wanted[file])
            else:
                file.unlink()
        return smaller

    def _permute(self, source_n: NDArray[np.int64]) -> None:
        """Move row `source_n[i]` to row i, in place: each row is read and written once.

        A permutation consists of cycles. Along a cycle each place takes the row of the next; the row of the first
        place waits in memory for the last.
        """
        images = self.open()
        placed_n = source_n == np.arange(len(source_n))
        with self.writer() as write:
            for start in np.flatnonzero(~placed_n).tolist():
                if placed_n[start]:  # part of an earlier cycle
                    continue
                first = images[start].copy()
                position = start
                while (source := int(source_n[position])) != start:
                    write(position, images[source])
                    placed_n[position] = True
                    position = source
                write(position, first)
                placed_n[position] = True

    def _files(self) -> list[tuple[Path, int]]:
        """Return each file and its number of rows."""
        most = self.shard_rows or self.rows
        starts = enumerate(range(0, self.rows, most))
        return [(self._file(number), min(most, self.rows - start)) for number, start in starts]

    def _file_and_row(self, row: int) -> tuple[Path, int]:
        number, position = divmod(row, self.shard_rows or self.rows)
        return self._file(number), position

    def _file(self, number: int) -> Path:
        return Path(self.folder, "images.npy" if self.shard_rows is None else shard_name(number))

    def _set_rows(self, file: Path, rows: int) -> None:
        """Write an NPY header, whose length does not depend on the number of rows, and set the file's length."""
        shape = (rows, self.size_px, self.size_px, 3)
        with file.open("r+b" if file.exists() else "wb") as stream:
            npy.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": shape})
            assert stream.tell() == HEADER_BYTES
            # longer: a sparse file, whose rows are written later; shorter: the rejected rows go
            stream.truncate(HEADER_BYTES + rows * self.row_bytes)


def plan_images(folder: Path, rows: int, size_px: int) -> ImageStore:
    """Plan the files of a pack: one, or several where one would be larger than SHARD_BYTES."""
    most = (SHARD_BYTES - HEADER_BYTES) // (size_px**2 * 3)
    return ImageStore(str(folder), rows, size_px, None if rows <= most else most)
