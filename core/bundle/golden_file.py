"""Golden frames: frames with rectangles and the expected answers, by which a bundle is proved on every machine."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from core.bundle.contract import HINT, TOLERANCE, UNSIGNED, Probs
from core.errors import InputError
from core.files import replacing
from core.geometry.frame import Bytes
from core.geometry.preprocess import Geometry, fill

NAME = "golden.npz"
GRAY_LEVELS = 1
"""Largest difference allowed between the stored and the recomputed geometry: OpenCV builds round differently."""
LIMIT_BYTES = 64 << 20
"""Largest sum of the arrays of a golden file: a header that claims more is refused before anything is allocated."""


@dataclass(frozen=True)
class Golden:
    """The content of golden.npz. Region r is the r-th rectangle, counted frame after frame."""

    frames: tuple[Bytes, ...]
    """uint8 (H, W, 3) BGR, of several sizes."""
    rects_r4: NDArray[np.int32]
    """int32 (r, 4): x0, y0, x1, y1 in pixels."""
    frame_of_r: NDArray[np.int32]
    """int32 (r,): which frame each rectangle is of."""
    geometry_rhwc: Bytes
    """uint8 (r, S, S, 3) RGB: the pixels that geometry must make of each rectangle."""
    probs: dict[str, Probs]
    """{precision: float32 (r, classes)}; "int8.ort" holds the answers of int8's unsigned form."""

    def __post_init__(self) -> None:
        regions = len(self.rects_r4)
        if not regions or self.rects_r4.shape != (regions, 4) or self.frame_of_r.shape != (regions,):
            raise InputError(f"{NAME}: rects_r4 is {self.rects_r4.shape}, frame_of_r is {self.frame_of_r.shape}")
        if self.frame_of_r.min() < 0 or self.frame_of_r.max() >= len(self.frames):
            raise InputError(f"{NAME}: frame_of_r names a frame that is not there")
        if self.geometry_rhwc.ndim != 4 or len(self.geometry_rhwc) != regions:
            raise InputError(f"{NAME}: geometry_rhwc is {self.geometry_rhwc.shape}, there are {regions} regions")
        check_frames(NAME, self.frames)
        for name, probs in self.probs.items():
            if (
                name.removesuffix(UNSIGNED) not in TOLERANCE
                or probs.ndim != 2
                or len(probs) != regions
                or not np.isfinite(probs).all()
            ):
                raise InputError(f"{NAME}: probs of {name!r} is {probs.shape}, there are {regions} regions")

    def every_nth(self, every: int) -> Golden:
        """Return every `every`-th region with its answers; all frames stay."""
        probs = {name: rows[::every] for name, rows in self.probs.items()}
        rects_r4 = self.rects_r4[::every]
        frame_of_r = self.frame_of_r[::every]
        return Golden(self.frames, rects_r4, frame_of_r, self.geometry_rhwc[::every], probs)

    def save(self, path: Path) -> None:
        """Write golden.npz, whole or not at all; the same content gives the same bytes."""
        arrays: dict[str, Any] = {f"frame_{i}": frame for i, frame in enumerate(self.frames)}
        arrays["rects_r4"] = self.rects_r4
        arrays["frame_of_r"] = self.frame_of_r
        arrays["geometry_rhwc"] = self.geometry_rhwc
        arrays |= {f"probs_{name}": probs for name, probs in sorted(self.probs.items())}
        with replacing(path) as temporary, temporary.open("wb") as stream:
            # not compressed: pictures with noise hardly shrink, and inflating them takes 40 ms of every power-on
            np.savez(stream, **arrays)


@dataclass(frozen=True)
class GoldenCheck:
    """One check of one precision on one backend."""

    backend: str
    precision: str
    check: str
    value: float
    limit: float

    @property
    def passed(self) -> bool:
        """True when the value is within the limit; NaN is not."""
        return self.value <= self.limit


def load_golden(path: Path) -> Golden:
    """Read golden.npz. Raises InputError when it is missing, damaged, or claims more than LIMIT_BYTES."""
    with reading(path):
        arrays = read_arrays(path)
        # frame_of_r begins like the names of the frames, and is none
        count = sum(name.startswith("frame_") for name in arrays) - 1
        frames = tuple(arrays.pop(f"frame_{i}") for i in range(count))
        probs = {name.removeprefix("probs_"): arrays.pop(name) for name in list(arrays) if name.startswith("probs_")}
        return Golden(frames=frames, probs=probs, **arrays)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn every error of a missing or damaged golden file into an InputError that names it."""
    try:
        yield
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: {HINT}") from None
    except (OSError, ValueError, TypeError, KeyError, zipfile.BadZipFile, struct.error, EOFError) as error:
        raise InputError(f"{path} is not a golden file ({str(error).splitlines()[0][:120]}): {HINT}") from None


def check_frames(name: str, frames: tuple[Bytes, ...]) -> None:
    """Raise InputError when the file `name` holds a frame that is no color picture."""
    for frame in frames:
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or not frame.size:
            raise InputError(f"{name}: a frame is {frame.dtype} {frame.shape}, expected uint8 (H, W, 3)")


def read_arrays(path: Path) -> dict[str, Any]:
    """Return the arrays of an .npz file by name. Raises ValueError when they claim more than LIMIT_BYTES."""
    arrays = {}
    with zipfile.ZipFile(path) as archive:
        claimed = sum(info.file_size for info in archive.infolist())
        if claimed > LIMIT_BYTES:
            raise ValueError(f"it claims {claimed} bytes, at most {LIMIT_BYTES} are read")
        for info in archive.infolist():
            with archive.open(info) as stream:
                _check_header(stream, info)
            with archive.open(info) as stream:
                arrays[info.filename.removesuffix(".npy")] = np.lib.format.read_array(stream, allow_pickle=False)
    return arrays


def _check_header(stream: IO[bytes], info: zipfile.ZipInfo) -> None:
    """Refuse an array whose header claims more bytes than the archive holds: numpy allocates before it reads."""
    major, _ = np.lib.format.read_magic(stream)
    read_header = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
    shape, _, dtype = read_header(stream)
    claimed = dtype.itemsize
    for length in shape:
        claimed *= length  # Python's integers do not overflow, as those of np.prod would
    if dtype.hasobject or claimed != info.file_size - stream.tell():
        raise ValueError(f"{info.filename} claims {claimed} bytes and does not hold them")


def expected_bytes(frames: tuple[Bytes, ...], rects_r4: Any, frame_of_r: Any, geometry: Geometry) -> Bytes:
    """Return the pixels that geometry makes of each rectangle, uint8 (r, S, S, 3)."""
    # one rectangle at a time: `fill` takes those of one frame
    out = geometry.empty(len(rects_r4))
    for r in range(len(rects_r4)):
        x0, y0, x1, y1 = rects_r4[r].tolist()
        fill(out[r : r + 1], frames[int(frame_of_r[r])], [(x0, y0, x1, y1)], geometry)
    return out


def compare_probs(backend_name: str, precision: str, probs_rc: Probs, expected_rc: Probs) -> list[GoldenCheck]:
    """Return two checks: max |dprob|, and flips of the top-1 class where its lead is over twice the tolerance."""
    tolerance = TOLERANCE[precision]
    ranked = np.sort(expected_rc, axis=1)
    # both probabilities may move by the tolerance, towards each other: a smaller lead may turn without a fault
    clear_r = ranked[:, -1] - ranked[:, -2] > 2 * tolerance
    flips = int(((probs_rc.argmax(1) != expected_rc.argmax(1)) & clear_r).sum())
    worst = float(np.abs(probs_rc - expected_rc).max())
    return [
        GoldenCheck(backend_name, precision, "max |dprob|", worst, tolerance),
        GoldenCheck(backend_name, precision, "flips of a clear top-1", flips, 0),
    ]
