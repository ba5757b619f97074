"""Decode images in processes, and cut them into the rows of a pack."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice

import cv2

from core.errors import InputError
from core.geometry.frame import Bytes, Rect
from core.geometry.preprocess import Geometry, clip_rect, fill, whole
from training.data.duplicates import hash_picture
from training.data.image_store import RowFiles
from training.data.listing import Load, Sample

FRAMES_PER_CHUNK = 16
MIN_DEVIATION = 1.5
"""Levels. Black padding deviates by up to 1.2 after JPEG, a clear sky by 1.9 and more (detection_yolo at 64 px)."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One source image and the rows that are cut from it: (row, rectangle or None for the whole frame)."""

    source: str
    size_wh: tuple[int, int] | None
    """Width and height that the frame must have, where the source says."""
    cuts: tuple[tuple[int, Rect | None], ...]
    drawn: frozenset[int] = frozenset()
    """The rows that nobody annotated: a background of one colour is padding and shows nothing."""


@dataclass(frozen=True, slots=True)
class Done:
    """What became of a row: its sha256 and the rectangle as cut, or the reason for its rejection."""

    row: int
    sha256: bytes
    rect: Rect | None
    reason: str | None = None
    size_wh: tuple[int, int] = (0, 0)
    """Width and height of what was cut, in pixels of the source."""
    hashes: tuple[int, int] = (0, 0)
    """Perceptual hashes of the row and of its mirror image."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row that stands in the pack."""

    sample: Sample
    split: str
    done: Done

    @property
    def judged_in(self) -> str:
        """The split that the row teaches or judges in: calibration rows are train's."""
        return "train" if self.split == "calibration" else self.split


@dataclass(frozen=True)
class Job:
    """What every frame of a pack has in common."""

    load: Load
    geometry: Geometry
    min_side_px: int
    files: RowFiles

    def run(self, frames: list[Frame]) -> list[Done]:
        """Decode frames, cut their rows through the one preprocessing, and write them into the file."""
        with self.files.writer() as write:
            return [done for frame in frames for done in self._cut(frame, write)]

    def _cut(self, frame: Frame, write: Callable[[int, Bytes], None]) -> list[Done]:
        pixels = self.load(frame.source)
        if isinstance(pixels, str):
            return [Done(row, b"", rect, pixels) for row, rect in frame.cuts]
        found_wh = pixels.shape[1], pixels.shape[0]
        if frame.size_wh not in (None, found_wh):
            reason = "is {}x{} px, its annotation says {}x{}".format(*found_wh, *(frame.size_wh or ()))
            return [Done(row, b"", rect, reason) for row, rect in frame.cuts]
        done = []
        out_nhwc = self.geometry.empty(1)
        for row, rect in frame.cuts:
            cut = whole(pixels) if rect is None else clip_rect(rect, *found_wh)
            width, height = cut[2] - cut[0], cut[3] - cut[1]
            if min(width, height) < self.min_side_px:
                done.append(Done(row, b"", rect, f"tiny: {width}x{height} px"))
                continue
            fill(out_nhwc, pixels, [cut], self.geometry)
            if row in frame.drawn and out_nhwc[0].std(axis=(0, 1)).max() < MIN_DEVIATION:
                done.append(Done(row, b"", rect, "background of one colour"))
                continue
            write(row, out_nhwc[0])
            digest, hashes = hashlib.sha256(out_nhwc.data).digest(), hash_picture(out_nhwc[0])
            done.append(Done(row, digest, None if rect is None else cut, None, (width, height), hashes))
        return done


def run(job: Job, frames: Iterable[Frame], processes: int) -> Iterator[Done]:
    """Run a job over frames, in this process or in several; the order of what is yielded is not fixed."""
    remaining = iter(frames)
    chunks = iter(lambda: list(islice(remaining, FRAMES_PER_CHUNK)), [])
    if processes == 1:
        for chunk in chunks:
            yield from job.run(chunk)
        return
    # spawn: a fork of a process with threads (torch's, a progress bar's) can hang
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, context, _start_worker, (job, os.getpid()))
    waiting: deque[Future[list[Done]]] = deque()
    try:
        for chunk in chunks:  # a short queue: a million frames must not all wait in memory
            waiting.append(pool.submit(_work, chunk))
            if len(waiting) >= 4 * processes:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    except BrokenProcessPool:
        raise InputError("a decoding process was killed (out of memory?): give fewer with --processes") from None
    finally:
        pool.shutdown(cancel_futures=True)


_JOB: Job | None = None


def _start_worker(job: Job, parent: int) -> None:
    global _JOB
    _JOB = job
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends us
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)  # libjpeg and libpng write their complaints past us, over the progress bar
    threading.Thread(target=_die_with, args=(parent,), daemon=True).start()


def _die_with(parent: int) -> None:
    """End this process when its parent was killed: nobody else would."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _work(frames: list[Frame]) -> list[Done]:
    assert _JOB is not None
    return _JOB.run(frames)
