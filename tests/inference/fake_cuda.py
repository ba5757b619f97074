"""A CUDA device whose memory is apart from the host's and whose streams hold their work until they are waited for.

So a copy, a wait or a capture that the product forgets is seen where there is no device.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from types import SimpleNamespace
from typing import ClassVar

import numpy as np

from core.errors import DeviceError
from inference import cuda_device

STREAM = 7


class Cuda:
    """The calls of the CUDA runtime that the product makes."""

    def __init__(self) -> None:
        self.pending: list[Callable[[], object]] = []
        self.recorded: list[Callable[[], object]] | None = None
        self.open = 0
        """Streams and executable graphs that were not destroyed."""
        self.launched = 0

    def submit(self, work: Callable[[], object]) -> None:
        """Put work on the stream, or into the graph that is captured."""
        (self.pending if self.recorded is None else self.recorded).append(work)

    def __call__(self, name, *arguments):
        return getattr(self, name)(*arguments)

    def cudaStreamCreateWithFlags(self, flags):
        assert flags == 1, "a stream that waits for the default one cannot be captured beside other threads"
        self.open += 1
        return STREAM

    def cudaStreamDestroy(self, stream):
        assert stream == STREAM
        self.open -= 1

    def cudaStreamSynchronize(self, stream):
        assert stream == STREAM
        if self.recorded is not None:
            raise DeviceError("CUDA's cudaStreamSynchronize failed (cudaErrorStreamCaptureUnsupported)")
        work, self.pending = self.pending, []
        for call in work:
            call()

    def cudaStreamBeginCapture(self, stream, mode):
        assert (stream, mode) == (STREAM, "thread local")
        assert not self.pending
        self.recorded = []

    def cudaStreamEndCapture(self, stream):
        graph, self.recorded = self.recorded, None
        return graph

    def cudaGraphInstantiate(self, graph, flags):
        self.open += 1
        return SimpleNamespace(work=list(graph))

    def cudaGraphDestroy(self, graph):
        graph.clear()

    def cudaGraphExecDestroy(self, graph):
        self.open -= 1

    def cudaGraphLaunch(self, graph, stream):
        assert stream == STREAM
        self.launched += 1
        self.pending += graph.work


class Buffer:
    """Host and device memory; the device's is found by its address."""

    at: ClassVar[dict[int, Buffer]] = {}
    addresses = itertools.count(1)
    cuda: ClassVar[Cuda]

    def __init__(self, shape, dtype):
        self.array, self.memory = np.zeros(shape, dtype), np.zeros(shape, dtype)
        self.device = next(Buffer.addresses)
        Buffer.at[self.device] = self

    def upload(self, rows, stream):
        Buffer.cuda.submit(lambda: np.copyto(self.memory[:rows], self.array[:rows]))

    def download(self, rows, stream):
        Buffer.cuda.submit(lambda: np.copyto(self.array[:rows], self.memory[:rows]))

    def free(self):
        del Buffer.at[self.device]
        self.array = self.memory = None


def put_device(monkeypatch, sm=87) -> Cuda:
    """Put a device of one compute capability here."""
    cuda = Cuda()
    modes = SimpleNamespace(cudaStreamCaptureModeThreadLocal="thread local")
    monkeypatch.setattr(Buffer, "cuda", cuda, raising=False)
    monkeypatch.setattr(Buffer, "at", {})
    monkeypatch.setattr(cuda_device, "unavailable_reason", lambda: None)
    monkeypatch.setattr(cuda_device, "device", lambda: cuda_device.Device("Fake Orin", sm, "runtime 12.6"))
    runtime = SimpleNamespace(cudaStreamNonBlocking=1, cudaStreamCaptureMode=modes)
    monkeypatch.setattr(cuda_device, "runtime", lambda: runtime)
    monkeypatch.setattr(cuda_device, "call", cuda)
    monkeypatch.setattr(cuda_device, "PinnedBuffer", Buffer)
    return cuda
