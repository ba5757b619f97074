"""The preparation of batches: augmentation on the host, or on the device from a resident pack or pinned memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from core.data.pack import Pack
from training.augment import cpu, gpu
from training.augment.params import AugmentParams

PLACES = ("auto", "host", "device")
RESIDENT_SHARE = 0.5
"""The largest share of a GPU's free memory that a resident pack may take; the rest is for the network."""
ROWS_PER_COPY = 1024
Rows = NDArray[np.int64]
DeviceFunction = Callable[[Tensor, Tensor, Tensor], Tensor]


class BatchPreparer(Protocol):
    """Prepares a batch in two halves: `prepare` in a thread on the host, ahead of time, and `finish` in the step."""

    description: str
    """A phrase for the log: the place of augmentation and the origin of the frames."""
    pinned: bool
    """True when batches go through pinned memory to a GPU."""
    streams_frames: bool
    """True when whole frames, and not row numbers, go to the device."""

    def prepare(self, rows: Rows, params: AugmentParams) -> tuple[Tensor, ...]:
        """Return what `finish` needs for these rows of the pack, on the host."""

    def finish(self, *prepared: Tensor) -> Tensor:
        """Return the augmented frames, uint8 (n, S, S, 3), from tensors on the device, without a branch on data."""


class HostAugment:
    """Augmentation in the thread on the host."""

    def __init__(self, pack: Pack, mean: tuple[float, ...], pinned: bool = False) -> None:
        self.pack = pack
        self.pinned = pinned
        self.streams_frames = pinned
        self.erased_rgb = np.round(np.array(mean) * 255).astype(np.uint8)
        self.description = "augmented by a thread on the host"

    def prepare(self, rows: Rows, params: AugmentParams) -> tuple[Tensor, ...]:
        """Return the augmented frames."""
        return (torch.from_numpy(cpu.augment(read_rows(self.pack, rows), params, self.erased_rgb)),)

    def finish(self, *prepared: Tensor) -> Tensor:
        """Return the frames as they are."""
        return prepared[0]


class DeviceAugment:
    """Augmentation on the device; `resident_nhwc`, if given, holds the whole pack there."""

    def __init__(
        self,
        pack: Pack,
        mean: tuple[float, ...],
        device: str,
        resident_nhwc: Tensor | None = None,
        apply: DeviceFunction = gpu.augment,
    ) -> None:
        self.pack = pack
        self.resident_nhwc = resident_nhwc
        self.apply = apply
        self.pinned = device.startswith("cuda")
        self.erased_rgb = (torch.tensor(mean) * 255).round().to(device)
        self.streams_frames = self.pinned and resident_nhwc is None
        self.description = "augmented on the device, " + (
            "which holds the pack, so the step sets the pace"
            if resident_nhwc is not None
            else "which gets frames from the memory-mapped pack: the thread that reads them, or the step, sets the pace"
        )

    def prepare(self, rows: Rows, params: AugmentParams) -> tuple[Tensor, ...]:
        """Return the row numbers when the pack is resident, else the stored frames; and the parameters."""
        is_resident = self.resident_nhwc is not None
        source = torch.from_numpy(rows if is_resident else read_rows(self.pack, rows))
        return source, torch.from_numpy(gpu.pack_params(params))

    def finish(self, *prepared: Tensor) -> Tensor:
        """Augment on the device."""
        source, packed = prepared
        frames = self.resident_nhwc[source] if self.resident_nhwc is not None else source
        return self.apply(frames, packed, self.erased_rgb)


def open_preparer(
    pack: Pack,
    mean: tuple[float, ...],
    device: str = "cpu",
    place: str = "host",
    apply: DeviceFunction = gpu.augment,
) -> BatchPreparer:
    """Return the preparer of a pack's batches; on a GPU the pack is resident if it fits.

    place: `host` or `device`; apply: `gpu.augment`, or the same compiled by torch.compile.
    """
    if place == "host":
        return HostAugment(pack, mean, pinned=device.startswith("cuda"))
    resident_nhwc = load_resident(pack, device) if _fits(pack, device) else None
    return DeviceAugment(pack, mean, device, resident_nhwc, apply)


def choose_place(choice: str, device: str) -> str:
    """Return the place of augmentation, `host` or `device`; `auto` is the device when it is a GPU."""
    if choice != "auto":
        return choice
    return "device" if device.startswith("cuda") else "host"


def shrink(frames_nhwc: Tensor, side_px: int) -> Tensor:
    """Return uint8 (n, S, S, 3) frames at a smaller side, each pixel the mean of the area that it covers."""
    if side_px == frames_nhwc.shape[1]:
        return frames_nhwc
    small_nchw = interpolate(frames_nhwc.permute(0, 3, 1, 2).float(), side_px, mode="area")
    return small_nchw.round().byte().permute(0, 2, 3, 1).contiguous()


def load_resident(pack: Pack, device: str) -> Tensor:
    """Return all images of a pack on the device; they are copied in parts, so that the host never holds them all."""
    images = pack.images_nhwc
    resident = torch.empty(images.shape, dtype=torch.uint8, device=device)
    for start in range(0, len(images), ROWS_PER_COPY):
        part = slice(start, start + ROWS_PER_COPY)
        resident[part] = torch.from_numpy(np.array(images[part]))  # a copy: torch warns about read-only memory
    return resident


def read_rows(pack: Pack, rows: Rows) -> NDArray[np.uint8]:
    """Return a copy of pack rows in the given order."""
    # read in ascending order, in which a disk and the read-ahead of the memory map are the fastest
    ascending = np.argsort(rows, kind="stable")
    images = np.empty((len(rows), *pack.images_nhwc.shape[1:]), np.uint8)
    images[ascending] = pack.images_nhwc[rows[ascending]]
    return images


def _fits(pack: Pack, device: str) -> bool:
    """Tell whether a GPU has room for the pack."""
    if not device.startswith("cuda"):
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return int(np.prod(pack.images_nhwc.shape)) <= RESIDENT_SHARE * free
