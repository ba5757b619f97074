"""Where the images of a batch are augmented: on the host, or on the device, from a resident pack or pinned memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from core.data.pack import Pack
from training.augment import cpu as augment
from training.augment import gpu
from training.augment.params import AugmentParams

PLACES = ("auto", "host", "device")
RESIDENT_SHARE = 0.5
"""A pack may take this share of the free memory of a GPU; the rest is the network's."""
COPIED_AT_ONCE = 1024
Rows = NDArray[np.int64]
DeviceFunction = Callable[[Tensor, Tensor, Tensor], Tensor]


class BatchPreparer(Protocol):
    """Two halves: what a thread prepares on the host, and what the step makes images of."""

    place: str
    """Where images are augmented and where they come from, in words for the log."""
    pinned: bool
    """Whether batches go to a GPU, through pinned memory."""
    streams: bool
    """Whether whole frames, and not row numbers, go there."""

    def prepare(self, rows: Rows, params: AugmentParams) -> tuple[Tensor, ...]:
        """Return what `finish` needs for these rows of the pack, on the host."""

    def finish(self, *prepared: Tensor) -> Tensor:
        """Return the augmented frames, uint8 (n, S, S, 3), from tensors on the device, without a branch on data."""


class HostAugment:
    """The thread augments; the device gets the images."""

    def __init__(self, pack: Pack, mean: tuple[float, ...], pinned: bool = False) -> None:
        self.pack, self.pinned, self.streams = pack, pinned, pinned
        self.erased_rgb = np.round(np.array(mean) * 255).astype(np.uint8)
        self.place = "augmented by a thread on the host"

    def prepare(self, rows: Rows, params: AugmentParams) -> tuple[Tensor, ...]:
        """Return the augmented frames."""
        return (torch.from_numpy(augment.augment(gather(self.pack, rows), params, self.erased_rgb)),)

    def finish(self, *prepared: Tensor) -> Tensor:
        """Return the frames as they are."""
        return prepared[0]


class DeviceAugment:
    """The device augments; `resident_nhwc`, where there is one, holds the pack there already."""

    def __init__(
        self,
        pack: Pack,
        mean: tuple[float, ...],
        device: str,
        resident_nhwc: Tensor | None = None,
        apply: DeviceFunction = gpu.augment,
    ) -> None:
        self.pack, self.pinned, self.resident_nhwc, self.apply = pack, device.startswith("cuda"), resident_nhwc, apply
        self.erased_rgb = (torch.tensor(mean) * 255).round().to(device)
        self.streams = self.pinned and resident_nhwc is None
        self.place = "augmented on the device, " + (
            "which holds the pack: the step is the bound"
            if resident_nhwc is not None
            else "which gets frames from the memory-mapped pack: one thread that reads them, or the step, is the bound"
        )

    def prepare(self, rows: Rows, params: AugmentParams) -> tuple[Tensor, ...]:
        """Return the row numbers of a resident pack, or else the frames as they are stored; and the parameters."""
        source = torch.from_numpy(rows if self.resident_nhwc is not None else gather(self.pack, rows))
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
    """Return what prepares the batches; on a GPU the pack is resident when it fits.

    place: `host` or `device`; apply: `gpu.augment`, or what torch.compile made of it.
    """
    if place == "host":
        return HostAugment(pack, mean, pinned=device.startswith("cuda"))
    return DeviceAugment(pack, mean, device, load_resident(pack, device) if _fits(pack, device) else None, apply)


def choose_place(asked: str, device: str) -> str:
    """Return where to augment: on the device when it is a GPU, unless told."""
    return asked if asked != "auto" else "device" if device.startswith("cuda") else "host"


def shrink(frames_nhwc: Tensor, side_px: int) -> Tensor:
    """Return uint8 (n, S, S, 3) frames at a smaller side, each pixel the mean of the area it covers."""
    if side_px == frames_nhwc.shape[1]:
        return frames_nhwc
    small_nchw = interpolate(frames_nhwc.permute(0, 3, 1, 2).float(), side_px, mode="area")
    return small_nchw.round().byte().permute(0, 2, 3, 1).contiguous()


def load_resident(pack: Pack, device: str) -> Tensor:
    """Copy all images of a pack to the device, some at a time: the host never holds more."""
    images = pack.images_nhwc
    resident = torch.empty(images.shape, dtype=torch.uint8, device=device)
    for at in range(0, len(images), COPIED_AT_ONCE):
        resident[at : at + COPIED_AT_ONCE] = torch.from_numpy(np.array(images[at : at + COPIED_AT_ONCE]))
    return resident


def gather(pack: Pack, rows: Rows) -> NDArray[np.uint8]:
    """Return a copy of pack rows in the order given, read from the disk in ascending order."""
    ascending = np.argsort(rows, kind="stable")
    images = np.empty((len(rows), *pack.images_nhwc.shape[1:]), np.uint8)
    images[ascending] = pack.images_nhwc[rows[ascending]]
    return images


def _fits(pack: Pack, device: str) -> bool:
    if not device.startswith("cuda"):
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return int(np.prod(pack.images_nhwc.shape)) <= RESIDENT_SHARE * free
