"""Decode images, in one process or several, and cut them into the rows of a pack."""

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
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any

import cv2

from core.errors import InputError
from core.geometry.frame import Bytes, Rect
from core.geometry.preprocess import Geometry, clip_rect, fill, whole
from core.log import shows_progress
from core.machine import cores
from training.data.duplicates import hash_picture
from training.data.image_store import ImageStore
from training.data.listing import Listing, LoadPicture, PackOptions, Sample

IMAGES_PER_CHUNK = 16
IMAGES_PER_PROCESS = 400
"""Another process pays for itself from this number of images: it takes a second to start."""
MIN_DEVIATION = 1.5
"""Least standard deviation of a background row, in gray levels: black padding has up to 1.2 after JPEG, a clear sky
1.9 or more (detection_yolo, 64 px)."""


SourceRows = list[tuple[int, Sample]]
"""The rows of one source image, by number."""


@dataclass(frozen=True, slots=True)
class DecodeResult:
    """A decoded row, its sha256 and the rectangle as cut, or the reason for its rejection."""

    row: int
    sha256: bytes
    rect: Rect | None
    reason: str | None = None
    size_wh: tuple[int, int] = (0, 0)
    """Width and height of the rectangle, in pixels of the source."""
    hashes: tuple[int, int] = (0, 0)
    """Perceptual hashes of the row and of its mirror image."""


@dataclass(frozen=True, slots=True)
class PackRow:
    """A row of the pack: its sample, its split and its decoded result."""

    sample: Sample
    split: str
    result: DecodeResult

    @property
    def eval_split(self) -> str:
        """The split, where calibration rows belong to train."""
        return "train" if self.split == "calibration" else self.split


@dataclass(frozen=True)
class DecodeTask:
    """The settings that all images of a pack are decoded with."""

    load: LoadPicture
    geometry: Geometry
    min_side_px: int
    store: ImageStore

    def run(self, images: list[SourceRows]) -> list[DecodeResult]:
        """Decode images, cut their rows with the preprocessing of every stage, and write them into the store."""
        with self.store.writer() as write:
            return [result for image in images for result in self._cut(image, write)]

    def _cut(self, rows: SourceRows, write: Callable[[int, Bytes], None]) -> list[DecodeResult]:
        _, first = rows[0]
        pixels = self.load(first.source)
        if isinstance(pixels, str):
            return [DecodeResult(row, b"", sample.box, pixels) for row, sample in rows]
        found_wh = pixels.shape[1], pixels.shape[0]
        # another size means another picture, or one that was scaled after it was annotated: its boxes do not fit
        if first.frame_wh not in (None, found_wh):
            reason = "is {}x{} px, its annotation says {}x{}".format(*found_wh, *(first.frame_wh or ()))
            return [DecodeResult(row, b"", sample.box, reason) for row, sample in rows]
        results = []
        out_nhwc = self.geometry.empty(1)
        for row, sample in rows:
            rect = sample.box
            cut = whole(pixels) if rect is None else clip_rect(rect, *found_wh)
            x0, y0, x1, y1 = cut
            width, height = x1 - x0, y1 - y0
            if min(width, height) < self.min_side_px:
                results.append(DecodeResult(row, b"", rect, f"tiny: {width}x{height} px"))
                continue
            fill(out_nhwc, pixels, [cut], self.geometry)
            # at a random place there may be padding alone. The color that varies most decides, after resizing: noise of
            # the source averages out
            if sample.unmarked and out_nhwc[0].std(axis=(0, 1)).max() < MIN_DEVIATION:
                results.append(DecodeResult(row, b"", rect, "background of one color"))
                continue
            write(row, out_nhwc[0])
            digest = hashlib.sha256(out_nhwc.data).digest()
            box = None if rect is None else cut
            results.append(DecodeResult(row, digest, box, None, (width, height), hash_picture(out_nhwc[0])))
        return results


def decode_samples(
    store: ImageStore, samples: list[Sample], listing: Listing, options: PackOptions
) -> list[DecodeResult]:
    """Decode sample i into row i of the store; return the results in that order."""
    # sorted, because groupby joins neighbors alone: each image is decoded once for all of its rows
    by_source = sorted(range(len(samples)), key=lambda row: samples[row].source)
    # by the size too: boxes of another size belong to another annotation, which is refused by itself
    by_image = groupby(by_source, key=lambda row: (samples[row].source, samples[row].frame_wh))
    images = [[(row, samples[row]) for row in rows] for _, rows in by_image]
    task = DecodeTask(listing.load, options.geometry, options.min_side_px, store)
    most = len(images) // IMAGES_PER_PROCESS
    processes = max(1, min(options.processes or cores(), most))
    results: dict[int, DecodeResult] = {}
    with _progress(len(samples)) as advance:
        for result in _decode_images(task, images, processes):
            results[result.row] = result
            advance()
    return [results[row] for row in range(len(samples))]


@contextmanager
def _progress(total: int) -> Iterator[Any]:
    """Show a progress bar on a terminal; yield a function that advances it by one."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("packing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not shows_progress()) as bar:
        task = bar.add_task("packing", total=total)
        yield lambda: bar.advance(task)


def _decode_images(task: DecodeTask, images: Iterable[SourceRows], processes: int) -> Iterator[DecodeResult]:
    """Decode images, in this process or in several; yield their results in no fixed order."""
    remaining = iter(images)
    chunks = iter(lambda: list(islice(remaining, IMAGES_PER_CHUNK)), [])  # until an empty chunk
    if processes == 1:
        for chunk in chunks:
            yield from task.run(chunk)
        return
    # spawn: a fork of a process with threads (torch's, a progress bar's) can hang
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, context, _start_worker, (task, os.getpid()))
    pending: deque[Future[list[DecodeResult]]] = deque()
    try:
        for chunk in chunks:  # the queue is short: a million images must not wait in memory
            pending.append(pool.submit(_work, chunk))
            if len(pending) >= 4 * processes:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()
    except BrokenProcessPool:
        raise InputError("a decoding process was killed (out of memory?): give fewer with --processes") from None
    finally:
        pool.shutdown(cancel_futures=True)


_TASK: DecodeTask | None = None


def _start_worker(task: DecodeTask, parent: int) -> None:
    global _TASK  # a worker keeps the task, which is then not sent again with every chunk
    _TASK = task
    cv2.setNumThreads(1)  # the processes share the cores already
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which ends its workers
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)  # libjpeg and libpng write their complaints to the terminal, over the progress bar
    threading.Thread(target=_die_with, args=(parent,), daemon=True).start()


def _die_with(parent: int) -> None:
    """End this process when its parent is gone; nothing else ends it when the parent was killed."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _work(images: list[SourceRows]) -> list[DecodeResult]:
    assert _TASK is not None
    return _TASK.run(images)
