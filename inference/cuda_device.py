"""The CUDA calls that the backends of a GPU share, through cuda-python: device, buffers, stream and graphs."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.errors import DeviceError, InputError

DRIVER = Path("/sys/module/nvidia/version")


@dataclass(frozen=True)
class Device:
    """The CUDA device 0."""

    name: str
    sm: int
    """Compute capability, 86 for 8.6."""
    cuda: str

    def as_json(self) -> dict[str, Any]:
        """Return the object that stands in manifests."""
        return {"name": self.name, "sm": self.sm, "cuda": self.cuda}


def runtime() -> Any:
    """Import cuda-python's runtime bindings."""
    from cuda.bindings import runtime as cudart

    return cudart


def unavailable_reason() -> str | None:
    """Return why no CUDA device can be used here, in words; None when one can."""
    if find_spec("cuda") is None or find_spec("cuda.bindings") is None:
        return "cuda-python is not installed"
    try:
        status, count = runtime().cudaGetDeviceCount()
    except Exception as error:  # the bindings load libraries as they are called
        return f"the CUDA driver does not load: {str(error).splitlines()[0]}"
    if int(status) != 0 or not count:
        return "there is no CUDA device or no driver for it"
    return None


def device() -> Device:
    """Describe the CUDA device 0. Raises InputError when there is none."""
    if reason := unavailable_reason():
        raise InputError(f"no CUDA device can be used here: {reason}")
    properties = call("cudaGetDeviceProperties", 0)
    # CUDA writes 12.8 as 12080
    numbers = [call(f"cuda{what}GetVersion") for what in ("Runtime", "Driver")]
    runtime_version, driver_version = [f"{number // 1000}.{number % 1000 // 10}" for number in numbers]
    name = properties.name.decode() if isinstance(properties.name, bytes) else str(properties.name)
    cuda = f"runtime {runtime_version}, driver {driver_version}{_driver_release()}"
    return Device(name, properties.major * 10 + properties.minor, cuda)


def _driver_release() -> str:
    """Return the release of NVIDIA's kernel module, which CUDA does not tell: " (570.86.15)", or nothing."""
    with suppress(OSError):
        return f" ({DRIVER.read_text(encoding='utf-8').strip()})"
    return ""


def call(name: str, *arguments: Any) -> Any:
    """Call one function of the CUDA runtime; return its value. Raises DeviceError with CUDA's own name of the error."""
    status, *values = getattr(runtime(), name)(*arguments)
    if int(status) != 0:
        raise DeviceError(f"CUDA's {name} failed ({getattr(status, 'name', status)}): run `nvidia-smi` to see why")
    return values[0] if values else None


def open_stream() -> Any:
    """Return a new stream that does not wait for the default one, which a capture would not allow."""
    return call("cudaStreamCreateWithFlags", runtime().cudaStreamNonBlocking)


def capture(stream: Any, enqueue: Callable[[], bool]) -> Any:
    """Return what `enqueue` puts on the stream as a graph for `cudaGraphLaunch`, without running it.

    enqueue: returns whether it worked. It must have run once before: a first run allocates, which no capture allows.
    Raises DeviceError when its work cannot be captured; the stream can then be used as before.
    """
    # thread-local: another thread's CUDA calls, such as torch's in a benchmark, neither break nor join this capture
    call("cudaStreamBeginCapture", stream, runtime().cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal)
    try:
        worked = enqueue()
    finally:
        # ended in any case: a stream that stays in capture mode fails every later call
        graph = call("cudaStreamEndCapture", stream)
    try:
        if not worked:
            raise DeviceError("the network refuses to be captured")
        return call("cudaGraphInstantiate", graph, 0)
    finally:
        call("cudaGraphDestroy", graph)  # the instance that was made from it does not need it any more


class PinnedBuffer:
    """An array in pinned host memory with its counterpart on the device."""

    def __init__(self, shape: tuple[int, ...], dtype: Any) -> None:
        self.bytes: int = math.prod(shape) * np.dtype(dtype).itemsize
        # pinned: from pageable memory CUDA stages a copy, which blocks the host
        self._host = call("cudaHostAlloc", self.bytes, 0)
        self.device = int(call("cudaMalloc", self.bytes))
        memory = (ctypes.c_uint8 * self.bytes).from_address(int(self._host))
        self.array: NDArray[Any] = np.frombuffer(memory, np.uint8).view(dtype).reshape(shape)

    def upload(self, rows: int, stream: Any) -> None:
        """Copy the first rows to the device, in stream order."""
        kind = runtime().cudaMemcpyKind.cudaMemcpyHostToDevice
        call("cudaMemcpyAsync", self.device, int(self._host), self._bytes_of(rows), kind, stream)

    def download(self, rows: int, stream: Any) -> None:
        """Copy the first rows to the host, in stream order."""
        kind = runtime().cudaMemcpyKind.cudaMemcpyDeviceToHost
        call("cudaMemcpyAsync", int(self._host), self.device, self._bytes_of(rows), kind, stream)

    def _bytes_of(self, rows: int) -> int:
        return self.bytes // len(self.array) * rows

    def free(self) -> None:
        """Free both memories; `array` must not be used afterwards."""
        call("cudaFree", self.device)
        call("cudaFreeHost", self._host)


class TensorBuffers:
    """A pinned buffer for each input and output of a network, by name."""

    def __init__(self) -> None:
        self.by_name: dict[str, PinnedBuffer] = {}

    def add(self, name: str, shape: tuple[int, ...], dtype: Any) -> PinnedBuffer:
        """Allocate the buffer of one tensor."""
        self.by_name[name] = PinnedBuffer(shape, dtype)
        return self.by_name[name]

    def upload(self, feeds: Mapping[str, NDArray[Any]], stream: Any) -> None:
        """Copy an array for each input to the device, in stream order."""
        for name, array in feeds.items():
            buffer = self.by_name[name]
            buffer.array[...] = array
            buffer.upload(len(array), stream)

    def download(self, names: Iterable[str], stream: Any) -> dict[str, NDArray[Any]]:
        """Copy outputs to the host and wait for the stream; return them by name, owned by the caller."""
        outputs = {name: self.by_name[name] for name in names}
        for buffer in outputs.values():
            buffer.download(len(buffer.array), stream)
        call("cudaStreamSynchronize", stream)
        # copied: the next run overwrites the buffers
        return {name: buffer.array.copy() for name, buffer in outputs.items()}

    def free(self) -> None:
        """Free every buffer. A second call does nothing."""
        while self.by_name:
            self.by_name.popitem()[1].free()
